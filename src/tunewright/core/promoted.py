"""The promoted model: `models/<project>/current`, one small JSON file that is replaced in one step.

Reading only; `release/` moves it. The file names an artifact and the hash of its manifest, so another artifact at the
same place is never taken for the promoted one.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from tunewright.core.errors import ArtifactError
from tunewright.core.runs import Artifact, Workspace

CURRENT = "current"
TUNED = "tuned"
"""The variant of a train artifact's own model; a quantized one has its scheme's name."""


class Current(BaseModel):
    """What the pointer says. artifact: path relative to the project file; entry: hash of the line of the history that
    moved the pointer; keeps: artifacts that `runs prune` leaves alone, those of a rollback included."""

    model_config = ConfigDict(frozen=True)

    artifact: str
    variant: str
    manifest_sha256: str
    since: datetime
    by: str
    entry: str
    keeps: tuple[str, ...] = ()


def folder(workspace: Workspace) -> Path:
    """Where the pointer and the history of a project are."""
    return workspace.root / "models" / workspace.project


def read(workspace: Workspace) -> Current | None:
    """The pointer; None where nothing was promoted. Raises ArtifactError when it is damaged."""
    path = folder(workspace) / CURRENT
    try:
        return Current.model_validate_json(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValidationError, UnicodeDecodeError):
        raise ArtifactError(
            "the pointer to the promoted model is damaged",
            where=str(path),
            fix="`tunewright promote --verify` shows the history; promote or roll back again",
        ) from None


def opened(workspace: Workspace, current: Current) -> Artifact:
    """The promoted artifact. Raises ArtifactError when it is gone or its manifest is another one."""
    place = (workspace.root / current.artifact).resolve()
    artifact = Artifact.open(place)
    if artifact.manifest_sha256 != current.manifest_sha256:
        raise ArtifactError(
            "the promoted artifact was changed after it was promoted: its manifest is another one",
            where=current.artifact,
            fix="`tunewright promote --rollback`, or promote an artifact that passes its gates",
        )
    return artifact


def in_use(workspace: Workspace) -> list[Path]:
    """Artifacts that the promoted model and a rollback need."""
    current = read(workspace)
    return [(workspace.root / path).resolve() for path in current.keeps] if current else []
