"""Rows that ask the same and are answered differently: a sign of labels that contradict each other."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tunewright.core.chat import Conversation
from tunewright.data.findings import Note, excerpt


def find_conflicts(questions: Sequence[bytes], read: Callable[[int], Conversation]) -> Iterator[tuple[int, Note]]:
    """The rows that answer a question otherwise than the first row that asks it, with a finding CONFLICT (kept).

    questions: `question_digest` of every row; read: a row's conversation, called only where a question repeats. Rows
    of more than one question are not looked at, nor are rows compared that have other system turns. Answers are the
    same without regard to case, width and whitespace.
    """
    for rows in _repeated(questions):
        first: dict[str, tuple[str, str]] = {}
        for row in rows:
            conversation = read(row)
            if not _is_single_turn(conversation):
                continue
            system = "\n".join(turn.content or "" for turn in conversation.messages if turn.role == "system")
            twin, expected = first.setdefault(system, (conversation.id, conversation.reference))
            if _folded(conversation.reference) != _folded(expected):
                reason = (
                    f"the same question as {twin} with another answer: "
                    f"'{excerpt(conversation.reference)}' here, '{excerpt(expected)}' there"
                )
                yield row, Note("CONFLICT", "kept", reason, excerpt(conversation.prompt[-1].content or ""))


def _repeated(questions: Sequence[bytes]) -> Iterator[list[int]]:
    """Rows with the same question, two or more, ascending, by the first of them."""
    counts: dict[bytes, int] = {}
    first = np.array([counts.setdefault(question, row) for row, question in enumerate(questions)], np.int64)
    counts.clear()
    order = np.argsort(first, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(first[order])) + 1):
        if len(rows) > 1:
            yield rows.tolist()


def _is_single_turn(conversation: Conversation) -> bool:
    return [turn.role for turn in conversation.messages if turn.role != "system"] == ["user", "assistant"]


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
