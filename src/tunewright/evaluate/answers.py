"""Answers of a model in memory: free greedy generation, and constrained choice among the known labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tunewright.core.chat import Conversation, Message
from tunewright.evaluate.prompts import Prompt
from tunewright.models.choice import choose
from tunewright.models.generate import Request, Sampling, generate
from tunewright.models.tokens import IGNORED, ChatTokenizer

LABEL_SLACK = 8
SMALLEST_GROUP = 8
"""Fewer prompts with one beginning are batched with the rest: half-empty batches cost more than the beginning."""


def free_answers(
    model: Any,
    tokenizer: ChatTokenizer,
    prompts: Sequence[Prompt],
    *,
    labels: Sequence[str],
    max_new_tokens: int,
    batch_size: int,
    name: str,
    on_finish: Callable[[int, Request], None] | None = None,
) -> list[Request]:
    """The greedily generated answer to each prompt, in order. `name` is shown with progress. on_finish: called with the
    place of a prompt and its answer as soon as it is there.

    An answer that is a label is cut where no label is that long; what else is asked at the same time changes nothing.
    """
    requests: dict[int, Request] = {}
    for rows in groups(prompts):
        ids = [prompts[row].ids for row in rows]
        limit = label_room(tokenizer, labels, max_new_tokens) if prompts[rows[0]].is_intent else max_new_tokens
        found = generate(
            model,
            tokenizer,
            ids,
            Sampling(max_new_tokens=limit),
            batch_size=batch_size,
            label=f"{name}: answers",
            on_finish=_placed(rows, on_finish) if on_finish else None,
        )
        requests |= zip(rows, found, strict=True)
    return [requests[row] for row in range(len(prompts))]


def _placed(rows: Sequence[int], on_finish: Callable[[int, Request], None]) -> Callable[[int, Request], None]:
    return lambda place, request: on_finish(rows[place], request)


def label_room(tokenizer: ChatTokenizer, labels: Sequence[str], max_new_tokens: int) -> int:
    """Tokens an intent answer may take: the longest label and LABEL_SLACK more for quotes and the like. A longer
    answer is no label, so nothing that could be right is cut."""
    longest = max((len(label_ids(tokenizer, label)) for label in labels), default=max_new_tokens)
    return min(max_new_tokens, longest + LABEL_SLACK)


def groups(prompts: Sequence[Prompt], *, intent_only: bool = False) -> list[list[int]]:
    """Indices of prompts that begin alike; small groups are put together as one, labels and other answers apart."""
    named: dict[str, list[int]] = {}
    for row, prompt in enumerate(prompts):
        if prompt.is_intent or not intent_only:
            named.setdefault(prompt.group, []).append(row)
    large = [rows for rows in named.values() if len(rows) >= SMALLEST_GROUP]
    rest = sorted(row for rows in named.values() if len(rows) < SMALLEST_GROUP for row in rows)
    apart = [[row for row in rest if prompts[row].is_intent is is_intent] for is_intent in (True, False)]
    return [*large, *(rows for rows in apart if rows)]


def choose_labels(
    model: Any,
    tokenizer: ChatTokenizer,
    prompts: Sequence[list[int]],
    labels: Sequence[str],
    *,
    batch_size: int,
    name: str,
) -> list[str]:
    """For each prompt the label that the model finds most probable as the whole answer."""
    answers = [label_ids(tokenizer, label) for label in labels]
    indices = choose(model, tokenizer, prompts, answers, batch_size=batch_size, label=f"{name}: constrained choice")
    return [labels[index] for index in indices]


def label_ids(tokenizer: ChatTokenizer, label: str) -> tuple[int, ...]:
    """The tokens trained when `label` is the answer: after the generation prompt, up to and with the end token."""
    messages = (Message(role="user", content="?"), Message(role="assistant", content=label))
    probe = Conversation(id=f"label {label!r}", messages=messages)
    example = tokenizer.examples(probe, max_length=tokenizer.max_length)[0]
    return tuple(token for token in example.labels if token != IGNORED)
