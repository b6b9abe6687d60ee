"""Checkpoints that are whole or do not count: each gets a mark with the size and hash of every file, last."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tunewright.core import files

MARK = "whole.json"
STATE = "trainer_state.json"


def mark_whole(checkpoint: Path) -> None:
    """Syncs the checkpoint's files to disk, then writes the mark."""
    records = {}
    for path in sorted(checkpoint.rglob("*")):
        if path.is_file() and path.name != MARK:
            with path.open("rb") as handle:
                files.fsync_handle(handle)
            records[path.relative_to(checkpoint).as_posix()] = [path.stat().st_size, files.sha256(path)]
    files.write_json(checkpoint / MARK, records)
    files.fsync_directory(checkpoint.parent)


def is_whole(checkpoint: Path) -> bool:
    """Whether the mark is there and every file is what it says."""
    try:
        records = json.loads((checkpoint / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return all(
        (checkpoint / name).is_file()
        and (checkpoint / name).stat().st_size == size
        and files.sha256(checkpoint / name) == digest
        for name, (size, digest) in records.items()
    )


def last_whole(folder: Path) -> Path | None:
    """The newest whole checkpoint below `folder`; broken ones (a killed save) are removed."""
    whole = []
    for path in _in_order(folder):
        if is_whole(path):
            whole.append(path)
        else:
            shutil.rmtree(path)
    return whole[-1] if whole else None


def step_of(checkpoint: Path) -> int:
    """The optimizer step after which it was written."""
    return int(checkpoint.name.rsplit("-", 1)[1])


def state_of(checkpoint: Path) -> dict[str, Any]:
    """What the trainer noted: global_step, log_history, best_global_step and more."""
    return dict(json.loads((checkpoint / STATE).read_text(encoding="utf-8")))


def keep(folder: Path, *, newest: int) -> None:
    """Removes marked checkpoints except the `newest` ones and the best one that each of those knows: whichever of them
    a resume starts from, the best weights are still there."""
    marked = [path for path in _in_order(folder) if (path / MARK).exists()]
    kept = {step_of(path) for path in marked[-newest:]}
    kept |= {int(state_of(path).get("best_global_step") or 0) for path in marked[-newest:]}
    for path in marked:
        if step_of(path) not in kept:
            shutil.rmtree(path)


def drop_since(folder: Path, step: int) -> None:
    """Removes the checkpoints written at `step` or later: their weights are not good."""
    for path in _in_order(folder):
        if step_of(path) >= step:
            shutil.rmtree(path)


def _in_order(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*"), key=step_of)
