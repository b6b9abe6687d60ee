"""Models that may be served by a name of their own: `models/<project>/named/<name>.json`, one small pointer each.

Only what is registered here can be loaded into a running server: a request gives a name, never a path.
"""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from tunewright.core import files, promoted
from tunewright.core.errors import ArtifactError, ConfigError
from tunewright.core.runs import Artifact, Workspace

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class Named(BaseModel):
    """artifact: path relative to the project file; variant: a scheme's name, or `tuned`."""

    model_config = ConfigDict(frozen=True)

    artifact: str
    variant: str
    manifest_sha256: str


def folder(workspace: Workspace) -> Path:
    """Where the pointers are."""
    return promoted.folder(workspace) / "named"


def names(workspace: Workspace) -> list[str]:
    """Everything that is registered, in order."""
    return sorted(path.stem for path in folder(workspace).glob("*.json"))


def register(workspace: Workspace, name: str, artifact: Artifact, variant: str) -> Named:
    """Points `name` to an artifact; what it pointed to before is not touched. Raises ConfigError for a name that is no
    plain word or the project's own."""
    checked(name)
    if name == workspace.project:
        raise ConfigError(f"'{name}' is the project's own name, under which its current model is served")
    made = Named(artifact=workspace.relative(artifact.path), variant=variant, manifest_sha256=artifact.manifest_sha256)
    folder(workspace).mkdir(parents=True, exist_ok=True)
    files.write_json(_place(workspace, name), made.model_dump())
    return made


def forget(workspace: Workspace, name: str) -> None:
    """Removes the pointer; the artifact stays. Raises ArtifactError where there is none."""
    read(workspace, name)
    _place(workspace, name).unlink()


def read(workspace: Workspace, name: str) -> Named:
    """The pointer `name`. Raises ArtifactError where there is none, or it is damaged; ConfigError for no name."""
    path = _place(workspace, checked(name))
    try:
        return Named.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(names(workspace)) or "none"
        raise ArtifactError(
            f"no model is registered as '{name}'", fix=f"`tunewright serve add NAME --from DIR`; known: {known}"
        ) from None
    except (ValidationError, UnicodeDecodeError):
        raise ArtifactError("the pointer is damaged", where=str(path), fix="register the model again") from None


def opened(workspace: Workspace, named: Named) -> Artifact:
    """The artifact it points to. Raises ArtifactError when it is gone or its manifest is another one."""
    artifact = Artifact.open((workspace.root / named.artifact).resolve())
    if artifact.manifest_sha256 != named.manifest_sha256:
        raise ArtifactError(
            "the artifact was changed after it was registered: its manifest is another one",
            where=named.artifact,
            fix="register it again",
        )
    return artifact


def checked(name: str) -> str:
    """`name`; raises ConfigError where it is no plain word."""
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"{name[:100]!r} is no name for a model", fix="letters, digits, dash, underscore and dot, at most 64"
        )
    return name


def in_use(workspace: Workspace) -> list[Path]:
    """Artifacts that names point to, and those that the promoted model and a rollback need: `prune` keeps them."""
    own = [(workspace.root / read(workspace, name).artifact).resolve() for name in names(workspace)]
    return [*promoted.in_use(workspace), *own]


def _place(workspace: Workspace, name: str) -> Path:
    return folder(workspace) / f"{name}.json"
