"""The history of promotions: `models/<project>/history.jsonl`, a line each, chained by hashes so that a change shows.

A line holds the hash of the line before it and its own: changing, removing or swapping lines breaks the chain, and
cutting lines off at the end leaves a pointer that names a line which is no longer there. Who can rewrite the whole file
and the pointer can still forge it: keep the newest hash, which `promote` prints, in another place.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from tunewright.core import files, promoted
from tunewright.core.errors import ArtifactError, ResourceError
from tunewright.core.promoted import Current
from tunewright.core.runs import Workspace

NAME = "history.jsonl"
LOCK = ".lock"
MOVING = "moving.json"
"""Stands there while the history has an entry that the pointer has not followed yet."""
START = "0" * 64
"""What the first line names as the line before it."""


class Entry(BaseModel):
    """One line. artifact, evaluation: paths relative to the project file; scores: of the tuned model, by metric, each
    with value, low, high and n; gates: the sentences they were decided with; previous, hash: the chain."""

    model_config = ConfigDict(frozen=True)

    number: int
    when: datetime
    kind: Literal["approve", "promote", "rollback"]
    by: str
    why: str
    artifact: str
    variant: str
    manifest_sha256: str
    evaluation: str
    evaluation_sha256: str
    approved_by: tuple[str, ...] = ()
    scores: dict[str, dict[str, float]] = {}
    gates: tuple[str, ...] = ()
    previous: str
    hash: str

    @property
    def moves(self) -> bool:
        """Whether the pointer moved with it."""
        return self.kind != "approve"

    def is_of(self, other: Entry) -> bool:
        """Whether both are about the same bytes, judged by the same evaluation."""
        return (self.manifest_sha256, self.variant, self.evaluation_sha256) == (
            other.manifest_sha256,
            other.variant,
            other.evaluation_sha256,
        )


def place(workspace: Workspace) -> Path:
    """The history's file."""
    return promoted.folder(workspace) / NAME


def digest(row: Mapping[str, Any]) -> str:
    """Hash of a line without its own `hash`: keys sorted, no spaces."""
    known = {key: value for key, value in row.items() if key != "hash"}
    text = json.dumps(known, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def read(workspace: Workspace) -> list[Entry]:
    """Every entry, oldest first. Raises ArtifactError where a line is none; the chain is proven by `faults`."""
    found = []
    for number, line in enumerate(_lines(workspace), start=1):
        try:
            found.append(Entry.model_validate_json(line))
        except ValidationError:
            raise ArtifactError(
                "this line of the history is damaged",
                where=f"{place(workspace)}:{number}",
                fix="restore the file from a copy",
            ) from None
    return found


def _lines(workspace: Workspace) -> list[str]:
    path = place(workspace)
    return [line for line in path.read_text(encoding="utf-8").split("\n") if line] if path.exists() else []


def faults(workspace: Workspace) -> list[str]:
    """What is wrong with the chain and the pointer, in sentences; empty when all is as it was written."""
    found: list[str] = []
    previous = START
    for number, line in enumerate(_lines(workspace), start=1):
        where = f"{NAME} line {number}"
        try:
            row = json.loads(line)
            entry = Entry.model_validate(row)
        except (ValueError, ValidationError):
            return [*found, f"{where}: this is no entry of a history"]
        if digest(row) != entry.hash:
            found.append(f"{where}: it was changed after it was written (by {entry.by}, {entry.when:%Y-%m-%d})")
        if entry.previous != previous or entry.number != number:
            found.append(f"{where}: it does not follow the line before it; lines were removed, added or swapped")
        previous = entry.hash
    return found or _pointer_faults(workspace, read(workspace))


def _pointer_faults(workspace: Workspace, entries: Sequence[Entry]) -> list[str]:
    if (promoted.folder(workspace) / MOVING).exists():
        return ["a promotion or rollback was interrupted; the next one finishes it first"]
    current, moves = promoted.read(workspace), [entry for entry in entries if entry.moves]
    if current is None:
        return [f"the history has {len(moves)} promotions, and there is no pointer '{promoted.CURRENT}'"] * bool(moves)
    if not moves or current.entry != moves[-1].hash:
        known = any(entry.hash == current.entry for entry in moves)
        what = "is older than the newest entry" if known else "names an entry that the history does not have"
        return [f"the pointer {what}: it was changed by hand, or lines were cut off the history"]
    last = moves[-1]
    if (current.artifact, current.variant, current.manifest_sha256) != (
        last.artifact,
        last.variant,
        last.manifest_sha256,
    ):
        return ["the pointer names another artifact than the newest promotion of the history"]
    return []


def stack(entries: Sequence[Entry]) -> list[Entry]:
    """The promoted models that a rollback can go back through, the current one last."""
    found: list[Entry] = []
    for entry in entries:
        if entry.kind == "promote":
            found.append(entry)
        elif entry.kind == "rollback":
            found.pop()
    return found


def open_approvals(entries: Sequence[Entry]) -> list[Entry]:
    """Approvals since the pointer moved last."""
    last = max((index for index, entry in enumerate(entries) if entry.moves), default=-1)
    return list(entries[last + 1 :])


def sealed(values: Mapping[str, Any], entries: Sequence[Entry]) -> Entry:
    """A new entry at the end of `entries`: numbered, chained and hashed. values: its other fields."""
    chain = {"number": len(entries) + 1, "previous": entries[-1].hash if entries else START}
    draft = Entry.model_validate({**values, **chain, "hash": ""})
    return draft.model_copy(update={"hash": digest(draft.model_dump(mode="json"))})


def append(workspace: Workspace, entries: Sequence[Entry], entry: Entry) -> None:
    """Writes the history with `entry` at its end in one step: a kill leaves the old one or the new one."""
    lines = [*_lines(workspace), json.dumps(entry.model_dump(mode="json"), ensure_ascii=False)]
    assert len(lines) == len(entries) + 1, "the lock is held"
    promoted.folder(workspace).mkdir(parents=True, exist_ok=True)
    files.write_text(place(workspace), "\n".join(lines) + "\n")


def move(workspace: Workspace, entries: Sequence[Entry], entry: Entry, previous: Entry | None) -> Current:
    """Appends `entry` and moves the pointer to it; where a kill comes between the two, `finish` does the rest."""
    note = promoted.folder(workspace) / MOVING
    files.write_json(note, {"entry": entry.hash, "previous": previous.hash if previous else None})
    append(workspace, entries, entry)
    current = point(workspace, entry, previous)
    note.unlink()
    return current


def settle(workspace: Workspace) -> None:
    """Finishes a move that was killed, before the history is judged. Raises as `locked` does."""
    with locked(workspace):
        pass  # `locked` does it


def finish(workspace: Workspace) -> None:
    """Ends a move that was killed: the pointer follows the history where that has the entry, else nothing moved."""
    note = promoted.folder(workspace) / MOVING
    if not note.exists():
        return
    begun, entries = json.loads(note.read_text(encoding="utf-8")), read(workspace)
    if entries and entries[-1].hash == begun["entry"]:
        previous = next((entry for entry in entries if entry.hash == begun["previous"]), None)
        point(workspace, entries[-1], previous)
    note.unlink()


def point(workspace: Workspace, entry: Entry, previous: Entry | None) -> Current:
    """Moves the pointer to what `entry` names, in one step (fsync, rename)."""
    kept = [path for found in (entry, previous) if found for path in (found.artifact, found.evaluation) if path]
    current = Current(
        artifact=entry.artifact,
        variant=entry.variant,
        manifest_sha256=entry.manifest_sha256,
        since=entry.when,
        by=entry.by,
        entry=entry.hash,
        keeps=tuple(dict.fromkeys(kept)),
    )
    files.write_json(promoted.folder(workspace) / promoted.CURRENT, current.model_dump(mode="json"))
    return current


@contextmanager
def locked(workspace: Workspace) -> Iterator[None]:
    """One promotion at a time; one that was killed is finished first. Raises ResourceError where another process has
    the lock."""
    home = promoted.folder(workspace)
    home.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(home / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ResourceError(
                "another process is promoting or rolling back", where=str(home), fix="wait for it, then try again"
            ) from None
        finish(workspace)
        yield
    finally:
        os.close(descriptor)
