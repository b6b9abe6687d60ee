"""The manifest: what a stage produced, from what, with which settings. Written last: without it, unfinished."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from tunewright import __version__
from tunewright.core import files
from tunewright.core.errors import ArtifactError
from tunewright.core.machine import Machine

NAME = "manifest.json"
SCHEMA_VERSION = 1


class FileRecord(BaseModel):
    """A file of the artifact; `path` is relative to the artifact."""

    model_config = ConfigDict(frozen=True)

    path: str
    bytes: int
    sha256: str


class InputRef(BaseModel):
    """What the stage read: an artifact by its manifest's hash, or a source file by its own. Paths are relative to
    the project file."""

    model_config = ConfigDict(frozen=True)

    path: str
    sha256: str


class Manifest(BaseModel):
    """One sealed artifact. The chain of `inputs` is the lineage from raw file to served model."""

    model_config = ConfigDict(frozen=True)

    schema_version: int = SCHEMA_VERSION
    stage: str
    created: datetime
    passed: bool
    tunewright_version: str = __version__
    fingerprint: str
    config: dict[str, Any]
    inputs: tuple[InputRef, ...]
    files: tuple[FileRecord, ...]
    facts: dict[str, Any]
    machine: Machine


def now() -> datetime:
    """UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def fingerprint(stage: str, config: Mapping[str, Any], inputs: tuple[InputRef, ...]) -> str:
    """Hash of everything that decides a stage's result: its settings and the content of its inputs."""
    known = {
        "stage": stage,
        "version": __version__,
        "config": config,
        "inputs": [reference.sha256 for reference in inputs],
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def record_files(directory: Path) -> tuple[FileRecord, ...]:
    """Hashes every file of an artifact except the manifest and hidden files."""
    return tuple(
        FileRecord(path=path.relative_to(directory).as_posix(), bytes=path.stat().st_size, sha256=files.sha256(path))
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != NAME and not path.name.startswith(".")
    )


def write(directory: Path, manifest: Manifest) -> None:
    """Seals `directory`."""
    files.write_text(directory / NAME, manifest.model_dump_json(indent=2) + "\n")


def read(directory: Path) -> Manifest:
    """The manifest of a finished artifact; raises ArtifactError when there is none or it is damaged."""
    path = directory / NAME
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise ArtifactError(
            "this is no finished artifact: it has no manifest.json", where=str(directory), fix="run its stage again"
        ) from None
    except UnicodeDecodeError:
        raise _damaged(path) from None
    try:
        return Manifest.model_validate_json(text)
    except ValidationError:
        raise _damaged(path) from None


def _damaged(path: Path) -> ArtifactError:
    return ArtifactError("the manifest is damaged", where=str(path), fix="delete the artifact and run its stage again")
