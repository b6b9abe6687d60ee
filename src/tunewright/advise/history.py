"""Finished trainings of this project on the same rows and model, and what their curves say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from tunewright.core.runs import Artifact, Workspace
from tunewright.project import ProjectConfig
from tunewright.train.config import TrainConfig

CURVE = "curve.json"
CLEAR = 0.02
"""A validation loss that differs by less than this share says nothing about the direction."""


@dataclass(frozen=True)
class PastRun:
    """One finished training. loss: the lowest on validation, in nats a trained token; losses: (step, loss) as measured;
    best_share: where in the run the best point lay, 0 to 1."""

    path: str
    train: TrainConfig
    loss: float
    steps: int
    best_share: float
    losses: tuple[tuple[int, float], ...]

    @property
    def overfitted(self) -> bool:
        """Whether the loss rose clearly after its lowest point."""
        return len(self.losses) > 1 and self.losses[-1][1] > self.loss * (1 + CLEAR)

    @property
    def still_falling(self) -> bool:
        """Whether the last measurement was clearly better than the one before."""
        return len(self.losses) > 1 and self.losses[-1][1] < self.losses[-2][1] * (1 - CLEAR)


def past_runs(project: ProjectConfig, workspace: Workspace, data: Artifact) -> tuple[PastRun, ...]:
    """Oldest first. A run whose settings this version no longer reads, or that measured no finite loss, is left out."""
    found = [
        _past_run(artifact, workspace) for artifact in workspace.finished("train") if _same(artifact, project, data)
    ]
    return tuple(run for run in found if run is not None)


def _same(artifact: Artifact, project: ProjectConfig, data: Artifact) -> bool:
    rows = {reference.sha256 for reference in artifact.manifest.inputs}
    model = artifact.manifest.config.get("model", {})
    return data.manifest_sha256 in rows and model.get("path") == project.model.path


def _past_run(artifact: Artifact, workspace: Workspace) -> PastRun | None:
    facts = artifact.manifest.facts
    loss = facts.get("validation_loss")
    if not isinstance(loss, float | int) or not math.isfinite(loss):
        return None
    try:
        train = TrainConfig.model_validate(artifact.manifest.config["train"])
    except (ValidationError, KeyError):
        return None
    steps = int(facts.get("steps", 0))
    return PastRun(
        path=workspace.relative(artifact.path),
        train=train,
        loss=float(loss),
        steps=steps,
        best_share=int(facts.get("best_step", steps)) / max(1, steps),
        losses=_losses(artifact),
    )


def _losses(artifact: Artifact) -> tuple[tuple[int, float], ...]:
    if not any(record.path == CURVE for record in artifact.manifest.files):
        return ()
    points: list[dict[str, Any]] = artifact.json(CURVE).get("validation", [])
    return tuple((int(point["step"]), float(point["loss"])) for point in points)


def best_of(runs: Sequence[PastRun]) -> PastRun | None:
    """The run with the lowest validation loss, where at least two different settings were measured: one run alone is
    better than nothing else."""
    settings = {run.train.model_dump_json() for run in runs}
    return min(runs, key=lambda run: run.loss) if len(settings) > 1 else None
