"""A trained model on the validation rows: the project's primary metric over generated answers. Test rows are never
opened here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.core import files
from tunewright.core.chat import Conversation
from tunewright.core.errors import ConfigError
from tunewright.core.events import say
from tunewright.core.runs import Artifact
from tunewright.core.scoring import Measured, Sample
from tunewright.evaluate import scorer
from tunewright.evaluate.labels import training_labels
from tunewright.evaluate.prompts import build_prompts, prompt_room
from tunewright.evaluate.rows import drawn
from tunewright.models.tokens import ChatTokenizer
from tunewright.project import ProjectConfig

MOST_ROWS = 200
"""Validation rows answered: an interval of at most 7 points to either side for a rate."""


@dataclass(frozen=True)
class Exam:
    """The rows every trial answers. score: the primary metric as a function of samples."""

    project: ProjectConfig
    base: Path
    rows: tuple[Conversation, ...]
    labels: tuple[str, ...]
    tokenizer: ChatTokenizer
    score: Callable[[Sequence[Sample]], Measured]

    @property
    def max_length(self) -> int:
        """Tokens of prompt and answer together."""
        return min(self.tokenizer.max_length, self.project.model.max_length or self.tokenizer.max_length)

    def key(self, train: Artifact) -> str:
        """Names the answers of a trained model to exactly these rows."""
        known = {
            "train": train.manifest_sha256,
            "evaluate": self.project.evaluate.model_dump(mode="json", exclude={"gates", "batch_size"}),
            "rows": [row.to_row() for row in self.rows],
        }
        return hashlib.sha256(json.dumps(known, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:32]


def prepare(project: ProjectConfig, data: Artifact, base: Path) -> Exam | None:
    """base: the model's folder. None, said with the reason, where the primary metric scores no generated answer or no
    validation row: the validation loss then decides alone."""
    config = project.evaluate
    validation = [Conversation.from_row(row) for row in data.jsonl("validation.jsonl")]
    training = [Conversation.from_row(row) for row in data.jsonl("train.jsonl")]
    options = scorer.intent_options(config)
    labels = training_labels(options, training) if options else []
    try:
        score = scorer.primary_scorer(config, labels)
        rows = [row for row in validation if scorer.applies_to(config, row)]
    except ConfigError as error:
        say(f"advise: {error.problem}; the validation loss decides")
        return None
    if not rows:
        say(f"advise: '{config.primary}' scores no validation row; the validation loss decides")
        return None
    asked = drawn(rows, MOST_ROWS, seed=project.seed)
    return Exam(project, base, tuple(asked), tuple(labels), ChatTokenizer.load(base), score)


def measure(exam: Exam, train: Artifact, folder: Path) -> Measured:
    """The trained model's score; its answers are kept in `folder` and read from there the next time."""
    place = folder / f"{exam.key(train)}.json"
    if place.exists():
        predictions = json.loads(place.read_text(encoding="utf-8"))
    else:
        predictions = _answers(exam, train)
        folder.mkdir(parents=True, exist_ok=True)
        files.write_json(place, predictions)
    samples = [
        Sample(id=row.id, prompt="", reference=row.reference, prediction=predictions[row.id], metadata=row.metadata)
        for row in exam.rows
    ]
    return exam.score(samples)


def _answers(exam: Exam, train: Artifact) -> dict[str, str]:
    """Greedy answers by row id."""
    from tunewright.evaluate.answers import free_answers
    from tunewright.models.load import choose_dtype, for_inference
    from tunewright.models.tuned import open_tuned

    config, model_config = exam.project.evaluate, exam.project.model
    model = for_inference(open_tuned(train, model_config, exam.base, dtype=choose_dtype(model_config.dtype)))
    room = prompt_room(exam.max_length, config.max_new_tokens, where="evaluate.max_new_tokens")
    prompts = build_prompts(config, exam.labels, exam.rows, exam.tokenizer, system="tuned", room=room)
    requests = free_answers(
        model,
        exam.tokenizer,
        prompts,
        labels=exam.labels,
        max_new_tokens=config.max_new_tokens,
        batch_size=config.batch_size,
        name="advise",
    )
    del model
    _free_memory()
    return {row.id: request.text.strip() for row, request in zip(exam.rows, requests, strict=True)}


def _free_memory() -> None:
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def interval(measured: Measured, seed: int) -> dict[str, Any]:
    """value, low, high, n of a score, for JSON."""
    from tunewright.core.scoring import to_score

    score = to_score(measured, seed=seed)
    return {"value": score.value, "low": score.low, "high": score.high, "n": score.n}
