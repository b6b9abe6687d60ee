"""From evaluate artifacts and JSONL files to a pool of items that all systems answered."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from tunewright.core import files, manifest
from tunewright.core.chat import Conversation
from tunewright.core.errors import ArtifactError
from tunewright.core.runs import Artifact
from tunewright.rating.study import Item, Pool, Source, Turn

SAMPLES = "samples.jsonl"


class _Row(BaseModel):
    """A line of a file: `prediction` of one system, or `base` and `tuned` side by side."""

    model_config = ConfigDict(frozen=True)

    id: str
    prompt: str | tuple[Turn, ...]
    prediction: str | None = None
    base: str | None = None
    tuned: str | None = None
    reference: str | None = None
    metadata: dict[str, Any] = {}

    @field_validator("id", mode="before")
    @classmethod
    def _number_or_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @property
    def turns(self) -> tuple[Turn, ...]:
        return (Turn(role="user", content=self.prompt),) if isinstance(self.prompt, str) else self.prompt


@dataclass(frozen=True)
class _Column:
    """The answers of one system, by item id."""

    system: str
    source: Source
    rows: dict[str, _Row]
    answers: dict[str, str]


def read(paths: Sequence[Path], *, root: Path) -> Pool:
    """The items that every system answered. paths: artifact folders and JSONL files; sources are named from `root`.

    Raises ArtifactError for a missing or damaged file, for answers of one system only, and where nothing is shared.
    """
    columns: list[_Column] = []
    for path in paths:
        found = _artifact(path, root) if path.is_dir() else _file(path, root)
        columns += [_named(column, path, columns) for column in found if not _known(column, columns)]
    if len(columns) < 2:
        raise ArtifactError(
            "these are the answers of one system only",
            where=", ".join(map(str, paths)),
            fix="name the answers of a second one: tunewright rate A.jsonl B.jsonl",
        )
    return _combine(columns)


def _artifact(path: Path, root: Path) -> list[_Column]:
    """Base and tuned of an evaluate artifact, with the whole conversation where its data artifact still is."""
    artifact = Artifact.open(path)
    rows, name = _rows(artifact.file(SAMPLES)), _relative(path, root)
    conversations = _conversations(artifact)
    whole = {
        id: row.model_copy(update={"prompt": conversations[id]}) if id in conversations else row
        for id, row in rows.items()
    }
    source = Source(path=name, sha256=artifact.manifest_sha256, systems=("base", "tuned"), split="test")
    return _columns(whole, source, path / SAMPLES)


def _conversations(artifact: Artifact) -> dict[str, tuple[Turn, ...]]:
    """The prompts of the test split, turn by turn: samples.jsonl holds them as one text."""
    root = artifact.path.resolve().parents[3]
    for given in artifact.manifest.inputs:
        place = root / given.path
        if (place / manifest.NAME).exists():
            data = Artifact.open(place)
            if data.manifest.stage == "data" and data.manifest_sha256 == given.sha256:
                found = [Conversation.from_row(row) for row in data.jsonl("test.jsonl")]
                return {row.id: tuple(Turn(role=t.role, content=t.content or "") for t in row.prompt) for row in found}
    return {}


def _file(path: Path, root: Path) -> list[_Column]:
    rows = _rows(path)
    name, digest = _relative(path, root), files.sha256(path)
    if all(row.base is not None and row.tuned is not None for row in rows.values()):
        return _columns(rows, Source(path=name, sha256=digest, systems=("base", "tuned")), path)
    missing = [id for id, row in rows.items() if row.prediction is None]
    if missing:
        raise ArtifactError(
            f"row '{missing[0]}' has no prediction", where=str(path), fix='rows are {"id", "prompt", "prediction"}'
        )
    source = Source(path=name, sha256=digest, systems=(path.stem,))
    return [_Column(path.stem, source, rows, {id: row.prediction or "" for id, row in rows.items()})]


def _columns(rows: dict[str, _Row], source: Source, path: Path) -> list[_Column]:
    for id, row in rows.items():
        if row.base is None or row.tuned is None:
            raise ArtifactError(f"row '{id}' lacks base or tuned", where=str(path), fix="run `tunewright evaluate`")
    base = _Column("base", source, rows, {id: row.base or "" for id, row in rows.items()})
    return [base, _Column("tuned", source, rows, {id: row.tuned or "" for id, row in rows.items()})]


def _rows(path: Path) -> dict[str, _Row]:
    """Rows by id, in their order. Raises ArtifactError that names the line."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ArtifactError("there is no such file", where=str(path), fix="check the path") from None
    except UnicodeDecodeError as error:
        raise ArtifactError(f"the file is not UTF-8 (byte {error.start})", where=str(path)) from None
    rows: dict[str, _Row] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        row = _row(line, f"{path}:{number}")
        if row.id in rows:
            raise ArtifactError(
                f"the id '{row.id}' stands twice", where=f"{path}:{number}", fix="give every row its own"
            )
        rows[row.id] = row
    if not rows:
        raise ArtifactError("the file has no rows", where=str(path))
    return rows


def _row(line: str, where: str) -> _Row:
    try:
        row = _Row.model_validate(json.loads(line))
        row.model_dump_json()  # a lone surrogate has no UTF-8 form: neither the page nor the store could hold it
    except json.JSONDecodeError as error:
        raise ArtifactError(f"this is not JSON: {error.msg}", where=where) from None
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        key = ".".join(map(str, fault["loc"])) or "row"
        raise ArtifactError(
            f"{key}: {fault['msg'].lower()}", where=where, fix='rows are {"id", "prompt", "prediction", "reference"}'
        ) from None
    except ValueError:
        raise ArtifactError("the row holds half a character (a lone surrogate)", where=where) from None
    return row


def _relative(path: Path, root: Path) -> str:
    resolved = path.resolve()
    return resolved.relative_to(root.resolve()).as_posix() if resolved.is_relative_to(root.resolve()) else path.name


def _known(column: _Column, columns: Sequence[_Column]) -> bool:
    """Whether the same system with the same answers is there already: two evaluations share their base."""
    return any(other.system.split(":")[-1] == column.system and other.answers == column.answers for other in columns)


def _named(column: _Column, path: Path, columns: Sequence[_Column]) -> _Column:
    """The column under a name that no other has: `tuned`, `0002:tuned`, `0002:tuned:2`."""
    taken, name = {other.system for other in columns}, column.system
    if name in taken:
        name = f"{path.resolve().name if path.is_dir() else path.resolve().parent.name}:{column.system}"
    number = 2
    while name in taken:
        name, number = f"{column.system}:{number}", number + 1
    return _Column(name, column.source, column.rows, column.answers)


def _combine(columns: Sequence[_Column]) -> Pool:
    first = columns[0]
    shared = [id for id in first.rows if all(id in column.rows for column in columns)]
    for column in columns[1:]:
        for id in shared:
            if column.rows[id].turns[-1:] != first.rows[id].turns[-1:]:
                raise ArtifactError(
                    f"item '{id}' has one prompt for {first.system} and another for {column.system}",
                    where=column.source.path,
                    fix="give answers to the same prompts, under the same ids",
                )
    if not shared:
        raise ArtifactError(
            "no item was answered by all systems",
            where=", ".join(column.system for column in columns),
            fix="the rows of an item have the same id in every file",
        )
    every = {id for column in columns for id in column.rows}
    notes = (
        [f"{len(every) - len(shared)} items that not all systems answered are left out"] if every != set(shared) else []
    )
    sources = list(dict.fromkeys(column.source for column in columns))
    kept = [source.model_copy(update={"systems": _systems_of(source, columns)}) for source in sources]
    systems = tuple(column.system for column in columns)
    return Pool(
        systems=systems, items=tuple(_item(id, columns) for id in shared), sources=tuple(kept), notes=tuple(notes)
    )


def _systems_of(source: Source, columns: Sequence[_Column]) -> tuple[str, ...]:
    return tuple(column.system for column in columns if column.source == source)


def _item(id: str, columns: Sequence[_Column]) -> Item:
    row, source = columns[0].rows[id], columns[0].source
    reference = next((column.rows[id].reference for column in columns if column.rows[id].reference), None)
    return Item(
        id=id,
        turns=row.turns,
        reference=reference or "",
        answers={column.system: column.answers[id] for column in columns},
        metadata=row.metadata,
        origin={"path": source.path, "sha256": source.sha256, "split": source.split},
    )
