"""The exam: which test rows and labels, taken by one system after the other, and what each one scored."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.core.chat import Conversation
from tunewright.core.errors import ArtifactError, ConfigError
from tunewright.core.scoring import Measured, Sample
from tunewright.evaluate.answers import answer
from tunewright.evaluate.compare import right_rows, wrong_answer_floors
from tunewright.evaluate.config import EvaluateConfig
from tunewright.evaluate.labels import training_labels
from tunewright.evaluate.prompts import System, build_prompts, prompt_room
from tunewright.evaluate.rows import applying, drawn
from tunewright.evaluate.scorer import RowMetric, intent_options, model_metrics, row_metrics
from tunewright.models.tokens import ChatTokenizer


@dataclass(frozen=True)
class Exam:
    """`rows` are answered and scored; `timed` is the row whose prompt latency is measured with."""

    config: EvaluateConfig
    rows: tuple[Conversation, ...]
    labels: tuple[str, ...]
    metrics: tuple[RowMetric, ...]
    timed: Conversation
    seed: int


@dataclass(frozen=True)
class Taken:
    """What one system answered and scored. `measured` and `floors` by metric key."""

    samples: list[Sample]
    right: list[bool | None]
    measured: dict[str, Measured]
    floors: dict[str, float]
    seconds: float
    labels_shown: int
    cut_prompts: int
    cut_answers: int

    def notes(self) -> dict[str, Any]:
        """What a reader of the scores must know beside them."""
        return {
            "rows": len(self.samples),
            "rows_with_labels_in_prompt": self.labels_shown,
            "prompts_cut_on_the_left": self.cut_prompts,
            "answers_cut_at_max_new_tokens": self.cut_answers,
            "seconds": round(self.seconds, 2),
        }


def prepare(
    config: EvaluateConfig, test: Sequence[Conversation], training: Sequence[Conversation], *, seed: int
) -> Exam:
    """Chooses rows and labels. Raises ArtifactError for an empty test split, ConfigError when a metric applies to no
    row or no training row has a label."""
    if not test:
        raise ArtifactError("the test split has no rows", where="test.jsonl", fix="set data.split.test above 0")
    options = intent_options(config)
    labels = training_labels(options, training) if options else []
    if options and not labels:
        raise ConfigError(
            f"no training row has a label at '{options.label}'",
            where="evaluate.metrics.intent",
            fix="check the metric's `label` and `where` against the rows' metadata",
        )
    metrics = row_metrics(config, labels)
    rows = [row for row in test if any(metric.applies(row.metadata) for metric in metrics)]
    if config.max_rows is not None:
        rows = drawn(rows, config.max_rows, seed=seed)
    for metric in metrics:
        if not any(metric.applies(row.metadata) for row in rows):
            raise ConfigError(
                f"the metric {type(metric).__name__.lower()} applies to none of the {len(rows)} test rows",
                where="evaluate.metrics",
                fix="check its `where` against the rows' metadata, or raise evaluate.max_rows",
            )
    timed = sorted(test, key=lambda row: sum(len(turn.content or "") for turn in row.prompt))[len(test) // 2]
    return Exam(config, tuple(rows), tuple(labels), tuple(metrics), timed, seed)


def take(exam: Exam, model: Any, tokenizer: ChatTokenizer, *, system: System, max_length: int) -> Taken:
    """Lets `model` answer every row and scores it. max_length: tokens of prompt and answer together."""
    start = time.monotonic()
    config = exam.config
    room = prompt_room(max_length, config.max_new_tokens, where="evaluate.max_new_tokens")
    timings = _time_model(exam, model, tokenizer, max_length)
    prompts = build_prompts(config, exam.labels, exam.rows, tokenizer, system=system, room=room)
    samples = answer(
        model,
        tokenizer,
        prompts,
        labels=exam.labels,
        max_new_tokens=config.max_new_tokens,
        batch_size=config.batch_size,
        name=system,
    )
    shown = sum(prompt.shows_labels for prompt in prompts)
    found, floors, right = _score(exam, samples, labels_shown=shown > 0)
    return Taken(
        samples=samples,
        right=right,
        measured={measured.metric: measured for measured in [*found, *timings]},
        floors=floors,
        seconds=time.monotonic() - start,
        labels_shown=shown,
        cut_prompts=sum(prompt.cut_tokens > 0 for prompt in prompts),
        cut_answers=sum(sample.finish == "length" for sample in samples),
    )


def _score(
    exam: Exam, samples: list[Sample], *, labels_shown: bool
) -> tuple[list[Measured], dict[str, float], list[bool | None]]:
    """Statistics and floors of every metric over answers, and which answers are right: by the primary metric where
    it says yes or no, else by the first that does."""
    found: list[Measured] = []
    floors: dict[str, float] = {}
    rights: dict[str, list[bool | None]] = {}
    for metric in exam.metrics:
        for measured in metric.measure(samples):
            is_intent = measured.metric.startswith("intent")
            note = f"|labels in prompt:{'yes' if labels_shown else 'no'}" if is_intent else ""
            found.append(dataclasses.replace(measured, signature=f"{measured.signature}{note}"))
            is_whole = len(measured.statistics) == len(applying(samples, metric.applies))
            if measured.yes_no and measured.higher_is_better and is_whole:
                rights[measured.metric] = right_rows(metric, measured, samples)
        floors |= wrong_answer_floors(metric, samples, seed=exam.seed)
    unknown: list[bool | None] = [None] * len(samples)
    right = rights.get(exam.config.primary) or next(iter(rights.values()), unknown)
    return found, floors, right


def _time_model(exam: Exam, model: Any, tokenizer: ChatTokenizer, max_length: int) -> list[Measured]:
    ids = tokenizer.prompt_ids(exam.timed.prompt)
    return [
        measured
        for metric in model_metrics(exam.config)
        for measured in metric.measure_model(model, tokenizer, ids, max_length=max_length)
    ]
