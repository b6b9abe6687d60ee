"""What the model will see of every row, proven before training: mask, BOS, end tokens, control ids, round trip.

The checks are those of RULES. Needs `tokenizers` only, neither torch nor transformers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.core.chat import Conversation, Message
from tunewright.core.errors import ArtifactError
from tunewright.data.findings import Note, Rejection, excerpt
from tunewright.models.template import TemplateRefusal
from tunewright.models.tokens import IGNORED, ChatTokenizer, Example

_UNLIMITED = 10**9
_PRIVATE_USE = re.compile("[\U000f0000-\U000ffffd]")
RULES = {
    "rendering": "the ids are those of the template's own rendering, encoded without added special tokens",
    "bos": "the begin token stands once, at position 0, where the template or the tokenizer sets it",
    "labels": "every sequence has a trained token",
    "end": "every trained turn has its end token trained",
    "control": "no control id comes from content",
    "round_trip": "content comes back from its tokens as it was",
}


@dataclass(frozen=True, slots=True)
class RowTokens:
    """One row's numbers. tokens, trained, cut: over its sequences; longest: tokens of the longest; bos: in one
    sequence, 0 where the begin token is a turn marker; breaches: names from RULES."""

    sequences: int
    tokens: int
    trained: int
    longest: int
    bos: int
    end_tokens: int
    cut: int
    control_texts: int
    breaches: tuple[str, ...]


class TokenCheck:
    """Turns conversations into their training sequences and proves them. max_length: tokens of a sequence."""

    def __init__(self, tokenizer: ChatTokenizer, *, max_length: int) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length
        begin = tokenizer.encode(tokenizer.bos) if tokenizer.bos else []
        self._bos = begin[0] if len(begin) == 1 else -1
        self.expected_bos = self._expected_bos()

    def _expected_bos(self) -> int | None:
        """How many BOS a sequence has; None where the model has none or uses it as a turn marker (ChatML)."""
        if self._bos < 0:
            return None
        pair = (Message(role="user", content="a"), Message(role="assistant", content="b"))
        once = self.tokenizer.messages_ids(pair).count(self._bos)
        try:
            is_turn_marker = self.tokenizer.messages_ids(pair * 2).count(self._bos) > once
        except TemplateRefusal:  # a template for single questions has no turns to mark
            is_turn_marker = False
        if is_turn_marker:
            return None
        renders = self.tokenizer.bos in self.tokenizer.template.render(pair)
        return int(renders or bool(self.tokenizer.settings.get("add_bos_token")))

    def notes(self, conversation: Conversation) -> list[Note]:
        """Control tokens spelled out in content, and a system turn that the template folds."""
        notes = []
        for number, turn in enumerate(conversation.messages, start=1):
            found = self.tokenizer.control_texts_in(turn.content or "")
            if found:
                reason = f"turn {number} spells control token {found[0]}; encoded as plain text"
                notes.append(Note("SPECIAL_TOKEN", "kept", reason, excerpt(turn.content or "")))
        if conversation.messages[0].role == "system" and not self.tokenizer.template.takes_system:
            notes.append(
                Note("SYSTEM_ROLE", "repaired", "the template takes no system turn: folded into the user turn")
            )
        return notes

    def measure(self, conversation: Conversation) -> RowTokens | Rejection:
        """The row's numbers, or why the model cannot be trained on it.

        Raises ArtifactError when the template keeps no prompt in front of its answer.
        """
        try:
            whole = self.tokenizer.examples(conversation, max_length=_UNLIMITED)
            runs = [run for example in whole for run in _runs(example)]
            longest = max((len(run) for run in runs), default=0)
            if longest > self.max_length - 1:
                reason = f"an answer of {longest} tokens does not fit into max_length {self.max_length}"
                return Rejection("TOO_LONG", reason, excerpt(conversation.reference))
            lost = self._lost_call(conversation, runs)
            if lost:
                return lost
            fits = all(len(example.input_ids) <= self.max_length for example in whole)
            examples = whole if fits else self.tokenizer.examples(conversation, max_length=self.max_length)
            row = self._row(conversation, examples)
            return (_shield_in(conversation) if row.breaches else None) or row
        except TemplateRefusal as error:
            return Rejection("TEMPLATE", error.problem, excerpt(conversation.reference))

    def _lost_call(self, conversation: Conversation, runs: list[list[int]]) -> Rejection | None:
        """A template that does not know tool calls renders an empty turn without a word."""
        for turn, run in zip(_trained(conversation), runs, strict=False):
            shown = self.tokenizer.decode(run, keep_special=True) if turn.tool_calls else ""
            name = next((c["function"]["name"] for c in turn.tool_calls if c["function"]["name"] not in shown), None)
            if name is not None:
                return Rejection("TEMPLATE", f"the chat template does not show the tool call {excerpt(name)}")
        return None

    def _row(self, conversation: Conversation, examples: Sequence[Example]) -> RowTokens:
        runs = [run for example in examples for run in _runs(example)]
        ends = sum(run[-1] in self.tokenizer.end_ids for run in runs)
        checks = {
            "rendering": self._is_rendering(conversation, examples),
            "bos": all(self._bos_right(example) for example in examples),
            "labels": all(example.trained for example in examples),
            "end": ends == len(runs) == len(_trained(conversation)),
            "control": self._controls_stay_text(conversation),
            "round_trip": self._comes_back(conversation, runs),
        }
        return RowTokens(
            sequences=len(examples),
            tokens=sum(len(example.input_ids) for example in examples),
            trained=sum(example.trained for example in examples),
            longest=max(len(example.input_ids) for example in examples),
            bos=0 if self.expected_bos is None else max(e.input_ids.count(self._bos) for e in examples),
            end_tokens=ends,
            cut=sum(example.cut_prompt_tokens for example in examples),
            control_texts=sum(len(self.tokenizer.control_texts_in(m.content or "")) for m in conversation.messages),
            breaches=tuple(name for name, holds in checks.items() if not holds),
        )

    def _is_rendering(self, conversation: Conversation, examples: Sequence[Example]) -> bool:
        """Asked of whole sequences without control text: the others have other ids by intent."""
        messages = conversation.messages
        spelled = any(self.tokenizer.control_texts_in(message.content or "") for message in messages)
        if spelled or len(examples) > 1 or examples[0].cut_prompt_tokens:
            return True
        last = max(index for index, message in enumerate(messages) if message.trained)
        ids = self.tokenizer.encode(self.tokenizer.template.render(messages[: last + 1]))
        if self.expected_bos and ids[:1] != [self._bos]:
            ids.insert(0, self._bos)
        return ids[: len(examples[0].input_ids)] == list(examples[0].input_ids)

    def _bos_right(self, example: Example) -> bool:
        if self.expected_bos is None:
            return True
        found = [position for position, token in enumerate(example.input_ids) if token == self._bos]
        return found == list(range(self.expected_bos))

    def _controls_stay_text(self, conversation: Conversation) -> bool:
        """The sequence has as many of each control id as the same conversation without the spelled tokens."""
        texts = {text for m in conversation.messages for text in self.tokenizer.control_texts_in(m.content or "")}
        if not texts:
            return True
        harmless = [m.model_copy(update={"content": _without(m.content, texts)}) for m in conversation.messages]
        ids = self.tokenizer.messages_ids(conversation.messages)
        expected = self.tokenizer.messages_ids(harmless)
        controls = [self.tokenizer.encode(text)[0] for text in texts]
        return all(ids.count(control) == expected.count(control) for control in controls)

    def _comes_back(self, conversation: Conversation, runs: list[list[int]]) -> bool:
        """Every turn's text survives encoding with its spaces, and every answer stands in its trained tokens."""
        texts = [message.content or "" for message in conversation.messages]
        if not all(self.tokenizer.control_texts_in(text) or self._survives(text) for text in texts):
            return False
        shown = [self.tokenizer.decode(run, keep_special=True) for run in runs]
        answers = [turn.content or "" for turn in _trained(conversation)]
        return all(_solid(answer) in _solid(text) for answer, text in zip(answers, shown, strict=False))

    def _survives(self, text: str) -> bool:
        return self.tokenizer.decode(self.tokenizer.encode(text), keep_special=True).strip() == text.strip()


def _shield_in(conversation: Conversation) -> Rejection | None:
    """Content may hold the private-use characters that ChatTokenizer puts in the place of control tokens."""
    for number, message in enumerate(conversation.messages, start=1):
        found = _PRIVATE_USE.search(message.content or "")
        if found:
            reason = f"turn {number} holds the private-use character U+{ord(found[0]):X}"
            return Rejection("PRIVATE_USE", reason, excerpt(message.content or "", found.start()))
    return None


def _trained(conversation: Conversation) -> list[Message]:
    return [message for message in conversation.messages if message.trained]


def _runs(example: Example) -> list[list[int]]:
    """The trained tokens of an example, one list a turn: template text always stands between two answers."""
    runs: list[list[int]] = []
    previous = IGNORED
    for label in example.labels:
        if label != IGNORED:
            if previous == IGNORED:
                runs.append([])
            runs[-1].append(label)
        previous = label
    return runs


def _without(content: str | None, texts: Iterable[str]) -> str | None:
    for text in texts:
        content = (content or "").replace(text, "x")
    return content


def _solid(text: str) -> str:
    """Text without whitespace: templates may trim an answer."""
    return "".join(text.split())


def table(rows: Sequence[RowTokens]) -> dict[str, Any]:
    """The token table of one split; lengths in tokens, counts in rows unless named."""
    tokens = sum(row.tokens for row in rows)
    sequences = sum(row.sequences for row in rows)
    return {
        "rows": len(rows),
        "sequences": sequences,
        "tokens": tokens,
        "trained_tokens": sum(row.trained for row in rows),
        "mean_tokens": round(tokens / sequences, 2) if sequences else 0.0,
        "max_tokens": max((row.longest for row in rows), default=0),
        "bos_per_sequence": max((row.bos for row in rows), default=0),
        "trained_end_tokens": sum(row.end_tokens for row in rows),
        "rows_cut": sum(row.cut > 0 for row in rows),
        "prompt_tokens_cut": sum(row.cut for row in rows),
        "rows_by_turn": sum(row.sequences > 1 for row in rows),
        "control_texts_in_content": sum(row.control_texts for row in rows),
        "all_masked": sum("labels" in row.breaches for row in rows),
        "control_ids_from_content": sum("control" in row.breaches for row in rows),
        "breaches": {rule: sum(rule in row.breaches for row in rows) for rule in RULES},
    }


def refuse_breaches(rows: Iterable[tuple[str, RowTokens]]) -> None:
    """Raises ArtifactError that names the first row with a breach and the rule it breaks."""
    for row_id, row in rows:
        if row.breaches:
            raise ArtifactError(
                f"the model's tokens break the rule '{row.breaches[0]}': {RULES[row.breaches[0]]}",
                where=row_id,
                fix="the chat template or the tokenizer is at fault; use another one, or leave this row out",
            )
