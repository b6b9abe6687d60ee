"""Metrics of generated answers while training: the model answers validation rows, the project's metrics score them.

Which metrics, and what a row is asked, comes from outside: the pipeline makes it of the evaluate stage, so that the two
stages do not meet.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.core.chat import Conversation, Message
from tunewright.core.errors import ConfigError
from tunewright.core.scoring import Measured, Sample
from tunewright.models.generate import Request, Sampling, generate
from tunewright.models.packing import PLAIN, attending
from tunewright.models.template import tools_of
from tunewright.models.tokens import ChatTokenizer
from tunewright.train.config import VALIDATION_LOSS, GeneratedEvaluation

SHORTEST_PROMPT = 16


@dataclass(frozen=True)
class GeneratedExam:
    """What is asked and how it is scored. `applies` picks rows, `ask` gives the messages before the answer, `grade`
    the metrics of answers; other `settings` make the stage run again."""

    grade: Callable[[Sequence[Sample]], list[Measured]]
    applies: Callable[[Conversation], bool]
    ask: Callable[[Conversation], Sequence[Message]]
    batch_size: int
    settings: Mapping[str, Any]


class GeneratedScores:
    """Takes the exam with a model in training, as often as it is called."""

    def __init__(
        self,
        exam: GeneratedExam,
        rows: Sequence[Conversation],
        tokenizer: ChatTokenizer,
        *,
        max_new_tokens: int,
        max_length: int,
    ) -> None:
        room = max_length - max_new_tokens
        if room < SHORTEST_PROMPT:
            raise ConfigError(
                f"{max_new_tokens} new tokens leave {max(room, 0)} of the model's {max_length} for the prompt",
                where="train.evaluate_generated.max_new_tokens",
                fix=f"use at most {max_length - SHORTEST_PROMPT}",
            )
        self._exam, self._rows, self._tokenizer = exam, rows, tokenizer
        self._sampling = Sampling(max_new_tokens=max_new_tokens)
        self._prompts = [_prompt(tokenizer, exam.ask(row), row)[-room:] for row in rows]

    def __call__(self, model: Any) -> list[Measured]:
        """The metrics of the model's greedy answers. model: in evaluation mode; its attention is put back after."""
        with attending(model, PLAIN):
            requests = generate(
                model,
                self._tokenizer,
                self._prompts,
                self._sampling,
                batch_size=self._exam.batch_size,
                label="validation answers",
            )
        return self._exam.grade([_sample(row, request) for row, request in zip(self._rows, requests, strict=True)])

    def measurable(self) -> list[str]:
        """The keys that these rows give, found with empty answers."""
        return [measured.metric for measured in self._exam.grade([_sample(row, None) for row in self._rows])]


def prepare(
    exam: GeneratedExam | None,
    settings: GeneratedEvaluation | None,
    validation: Sequence[Conversation],
    tokenizer: ChatTokenizer,
    *,
    max_length: int,
    seed: int,
    objective: str,
) -> GeneratedScores | None:
    """Draws the rows. Raises ConfigError where no metric applies to one, or where they do not give `objective`."""
    if settings is None:
        return None
    assert exam is not None, "the pipeline hands over the exam where train.evaluate_generated is set"
    rows = [row for row in validation if exam.applies(row)]
    if not rows:
        raise ConfigError(
            f"no metric of evaluate.metrics applies to one of the {len(validation)} validation rows",
            where="train.evaluate_generated",
            fix="check each metric's `where` against the rows' metadata",
        )
    if settings.rows < len(rows):
        drawn = sorted(random.Random(seed).sample(range(len(rows)), settings.rows))  # noqa: S311 (no secret)
        rows = [rows[index] for index in drawn]
    scores = GeneratedScores(exam, rows, tokenizer, max_new_tokens=settings.max_new_tokens, max_length=max_length)
    known = [VALIDATION_LOSS, *scores.measurable()]
    if objective not in known:
        raise ConfigError(
            f"nothing measures '{objective}' on the {len(rows)} validation rows that are answered",
            where="train.early_stopping.metric",
            fix=f"known: {', '.join(known)}",
        )
    return scores


def _prompt(tokenizer: ChatTokenizer, messages: Sequence[Message], row: Conversation) -> list[int]:
    return tokenizer.prompt_ids(messages, tools=tools_of(row.metadata))


def _sample(row: Conversation, request: Request | None) -> Sample:
    return Sample(
        id=row.id,
        prompt=row.prompt[-1].content or "",
        reference=row.reference,
        prediction=request.text.strip() if request else "",
        new_tokens=len(request.output_ids) if request else 0,
        finish=(request.finish if request else None) or "stop",
        metadata=row.metadata,
    )
