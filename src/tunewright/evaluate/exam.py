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
from tunewright.evaluate.compare import right_rows, wrong_answer_floors
from tunewright.evaluate.config import EvaluateConfig
from tunewright.evaluate.labels import training_labels
from tunewright.evaluate.metrics.resolution_log import refuse_recordings
from tunewright.evaluate.of_model import OfModel
from tunewright.evaluate.prompts import Prompt, System, build_prompts, prompt_room
from tunewright.evaluate.rows import applying, drawn
from tunewright.evaluate.scorer import RowMetric, intent_options, model_metrics, row_metrics
from tunewright.evaluate.systems.protocol import Asking, ChatModel, Kind
from tunewright.evaluate.systems.samples import answered
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
    of_model: OfModel | None = None


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
    seconds_per_answer: float | None = None
    """Median of questions asked one by one, measured where rivals are to be compared."""

    def notes(self) -> dict[str, Any]:
        """What a reader of the scores must know beside them."""
        return {
            "rows": len(self.samples),
            "rows_with_labels_in_prompt": self.labels_shown,
            "prompts_cut_on_the_left": self.cut_prompts,
            "answers_cut_at_max_new_tokens": self.cut_answers,
            "seconds": round(self.seconds, 2),
        } | ({} if self.seconds_per_answer is None else {"seconds_per_answer": self.seconds_per_answer})


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
    refuse_recordings(metrics)
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
    """`sit` for a model that is open already, without a cache. max_length: tokens of prompt and answer together."""
    from tunewright.evaluate.systems.open import in_memory

    kind: Kind = "base" if system == "base" else "merged"
    return sit(exam, in_memory(model, tokenizer, name=system, kind=kind, max_length=max_length), asked_as=system)


def sit(exam: Exam, candidate: ChatModel, *, asked_as: System) -> Taken:
    """Lets a system answer every row and scores it; what is measured of the model itself comes first, on a model that
    has not answered yet. asked_as: whether it is shown what the base or what the tuned model is shown."""
    start = time.monotonic()
    prompts = prompts_for(exam, candidate, asked_as=asked_as)
    of_model = measure_model(exam, candidate)
    samples = answered(candidate, prompts, asking(exam))
    return grade(exam, prompts, samples, of_model, seconds=time.monotonic() - start)


def asking(exam: Exam) -> Asking:
    """How every system of this exam answers."""
    return Asking(exam.config.max_new_tokens, exam.config.batch_size, exam.labels)


def prompts_for(exam: Exam, candidate: ChatModel, *, asked_as: System) -> list[Prompt]:
    """The questions as token ids of the system's own tokenizer, as messages alone where it has none. Raises ConfigError
    when the answers leave no place for a prompt."""
    room = None
    if candidate.max_length is not None:
        room = prompt_room(candidate.max_length, exam.config.max_new_tokens, where="evaluate.max_new_tokens")
    return build_prompts(exam.config, exam.labels, exam.rows, candidate.tokenizer, system=asked_as, room=room)


def measure_model(exam: Exam, candidate: ChatModel) -> list[Measured]:
    """What metrics of the model itself say, always measured now; nothing for a system that is no model of this process.
    Metrics over rows of a corpus belong here too."""
    from tunewright.evaluate.systems.local import LocalModel

    if not isinstance(candidate, LocalModel):
        return []
    ids = candidate.tokenizer.prompt_ids(exam.timed.prompt)
    timings = [
        measured
        for metric in model_metrics(exam.config)
        for measured in metric.measure_model(candidate.model, candidate.tokenizer, ids, max_length=candidate.max_length)
    ]
    return timings + (exam.of_model.measure(candidate) if exam.of_model else [])


def grade(
    exam: Exam,
    prompts: Sequence[Prompt],
    samples: list[Sample],
    of_model: Sequence[Measured] = (),
    *,
    seconds: float,
    metrics: Sequence[RowMetric] | None = None,
    signature: str = "",
) -> Taken:
    """Scores answers. metrics: those that these rows are scored with, default all; signature: what else decides the
    numbers, behind that of every metric."""
    shown = sum(prompt.shows_labels for prompt in prompts)
    chosen = exam.metrics if metrics is None else metrics
    found, floors, right = _score(exam, chosen, samples, labels_shown=shown > 0, signature=signature)
    return Taken(
        samples=samples,
        right=right,
        measured={measured.metric: measured for measured in [*found, *of_model]},
        floors=floors,
        seconds=seconds,
        labels_shown=shown,
        cut_prompts=sum(prompt.cut_tokens > 0 for prompt in prompts),
        cut_answers=sum(sample.finish == "length" for sample in samples),
    )


def _score(
    exam: Exam, metrics: Sequence[RowMetric], samples: list[Sample], *, labels_shown: bool, signature: str
) -> tuple[list[Measured], dict[str, float], list[bool | None]]:
    """Statistics and floors of every metric over answers, and which answers are right: by the primary metric where
    it says yes or no, else by the first that does."""
    found: list[Measured] = []
    floors: dict[str, float] = {}
    rights: dict[str, list[bool | None]] = {}
    for metric in metrics:
        for measured in metric.measure(samples):
            is_intent = measured.metric.startswith("intent")
            note = f"|labels in prompt:{'yes' if labels_shown else 'no'}" if is_intent else ""
            found.append(dataclasses.replace(measured, signature=f"{measured.signature}{note}{signature}"))
            is_whole = len(measured.statistics) == len(applying(samples, metric.applies))
            if measured.yes_no and measured.higher_is_better and is_whole:
                rights[measured.metric] = right_rows(metric, measured, samples)
        floors |= wrong_answer_floors(metric, samples, seed=exam.seed)
    unknown: list[bool | None] = [None] * len(samples)
    right = rights.get(exam.config.primary) or next(iter(rights.values()), unknown)
    return found, floors, right
