"""What is promoted or exported: a train artifact's own model or one variant of a quantize artifact."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.core import manifest
from tunewright.core.errors import ArtifactError
from tunewright.core.promoted import TUNED
from tunewright.core.runs import Artifact, Workspace


@dataclass(frozen=True)
class Candidate:
    """artifact: what is named, a train or quantize artifact; variant: `tuned` or a scheme's name; train: the train
    artifact that it is or was made from."""

    artifact: Artifact
    variant: str
    train: Artifact

    @property
    def row(self) -> dict[str, Any]:
        """The variant's row of table.json; empty for the tuned model."""
        if self.variant == TUNED:
            return {}
        rows: list[dict[str, Any]] = self.artifact.json("table.json")
        return next((row for row in rows if row["scheme"] == self.variant), {})


def find(workspace: Workspace, source: Path | None) -> Candidate:
    """The candidate in `source` (a train artifact, or a variant's folder in a quantize artifact), else the newest
    training, whether it passed or not: promotion says why it may not go on.

    Raises ArtifactError where there is none.
    """
    if source is None:
        trained = workspace.finished("train")
        if not trained:
            return _tuned(workspace.newest("train"))  # raises with the next step
        return _tuned(trained[-1])
    place = source.resolve()
    is_artifact = (place / manifest.NAME).exists()
    artifact = Artifact.open(place if is_artifact else place.parent)
    stage = artifact.manifest.stage
    if is_artifact and stage == "train":
        return _tuned(artifact)
    if stage != "quantize":
        raise ArtifactError(
            f"this belongs to the stage '{stage}', which holds no model",
            where=str(place),
            fix="name a train artifact, or the folder of one variant in a quantize artifact",
        )
    schemes = [str(row["scheme"]) for row in artifact.json("table.json")]
    if is_artifact or place.name not in schemes:
        raise ArtifactError(
            "name one variant of this quantize artifact", where=str(artifact.path), fix=f"one of: {', '.join(schemes)}"
        )
    return Candidate(artifact, place.name, trained_for(workspace, artifact))


def _tuned(train: Artifact) -> Candidate:
    return Candidate(train, TUNED, train)


def trained_for(workspace: Workspace, quantize: Artifact) -> Artifact:
    """The train artifact that a quantize artifact was made from, proven by its hash. Raises ArtifactError."""
    for reference in quantize.manifest.inputs:
        place = workspace.resolve(reference)
        if (place / manifest.NAME).exists() and manifest.read(place).stage == "train":
            found = Artifact.open(place)
            if found.manifest_sha256 == reference.sha256:
                return found
            raise ArtifactError(
                "the training that this variant was made from was changed since",
                where=workspace.relative(place),
                fix="train and quantize again",
            )
    raise ArtifactError(
        "the training that this variant was made from is gone", where=str(quantize.path), fix="quantize again"
    )
