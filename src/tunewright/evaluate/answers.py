"""Answers of one system: free greedy generation, and constrained choice among the labels of the training split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tunewright.core.chat import Conversation, Message
from tunewright.core.scoring import Sample
from tunewright.evaluate.prompts import Prompt, shown_text
from tunewright.models.choice import choose
from tunewright.models.generate import Request, Sampling, generate
from tunewright.models.tokens import IGNORED, ChatTokenizer

LABEL_SLACK = 8
SMALLEST_GROUP = 8
"""Fewer prompts with one beginning are batched with the rest: half-empty batches cost more than the beginning."""


def answer(
    model: Any,
    tokenizer: ChatTokenizer,
    prompts: Sequence[Prompt],
    *,
    labels: Sequence[str],
    max_new_tokens: int,
    batch_size: int,
    name: str,
) -> list[Sample]:
    """One sample a prompt, in order; intent prompts also get a constrained choice. `name` is shown with progress."""
    requests = free_answers(
        model, tokenizer, prompts, labels=labels, max_new_tokens=max_new_tokens, batch_size=batch_size, name=name
    )
    choices: dict[int, str] = {}
    for rows in groups(prompts, intent_only=True):
        ids = [prompts[row].ids for row in rows]
        chosen = choose_labels(model, tokenizer, ids, labels, batch_size=batch_size, name=name)
        choices |= zip(rows, chosen, strict=True)
    return [
        _sample(prompt, request, choices.get(row))
        for row, (prompt, request) in enumerate(zip(prompts, requests, strict=True))
    ]


def free_answers(
    model: Any,
    tokenizer: ChatTokenizer,
    prompts: Sequence[Prompt],
    *,
    labels: Sequence[str],
    max_new_tokens: int,
    batch_size: int,
    name: str,
) -> list[Request]:
    """The greedily generated answer to each prompt, in order. `name` is shown with progress."""
    requests: dict[int, Request] = {}
    for rows in groups(prompts):
        ids = [prompts[row].ids for row in rows]
        is_intent = all(prompts[row].is_intent for row in rows)
        limit = label_room(tokenizer, labels, max_new_tokens) if is_intent else max_new_tokens
        sampling = Sampling(max_new_tokens=limit)
        found = generate(model, tokenizer, ids, sampling, batch_size=batch_size, label=f"{name}: answers")
        requests |= zip(rows, found, strict=True)
    return [requests[row] for row in range(len(prompts))]


def label_room(tokenizer: ChatTokenizer, labels: Sequence[str], max_new_tokens: int) -> int:
    """Tokens an intent answer may take: the longest label and LABEL_SLACK more for quotes and the like. A longer
    answer is no label, so nothing that could be right is cut."""
    longest = max((len(label_ids(tokenizer, label)) for label in labels), default=max_new_tokens)
    return min(max_new_tokens, longest + LABEL_SLACK)


def _sample(prompt: Prompt, request: Request, choice: str | None) -> Sample:
    return Sample(
        id=prompt.conversation.id,
        prompt=shown_text(prompt.conversation.prompt),
        reference=prompt.conversation.reference,
        prediction=request.text.strip(),
        seconds=request.seconds,
        new_tokens=len(request.output_ids),
        finish=request.finish or "stop",
        metadata=prompt.conversation.metadata,
        choice=choice,
    )


def groups(prompts: Sequence[Prompt], *, intent_only: bool = False) -> list[list[int]]:
    """Indices of prompts that begin alike; small groups are put together as one."""
    named: dict[str, list[int]] = {}
    for row, prompt in enumerate(prompts):
        if prompt.is_intent or not intent_only:
            named.setdefault(prompt.group, []).append(row)
    large = [rows for rows in named.values() if len(rows) >= SMALLEST_GROUP]
    rest = sorted(row for rows in named.values() if len(rows) < SMALLEST_GROUP for row in rows)
    return [*large, rest] if rest else large


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
