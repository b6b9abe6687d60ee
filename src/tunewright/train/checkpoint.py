"""Checkpoints that are whole or do not count: each gets a mark with the size and hash of every file, last."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tunewright.core import files

MARK = "whole.json"


def mark_whole(checkpoint: Path) -> None:
    """Syncs the checkpoint's files to disk, then writes the mark."""
    records = {}
    for path in sorted(checkpoint.rglob("*")):
        if path.is_file() and path.name != MARK:
            with path.open("rb") as handle:
                files.fsync_handle(handle)
            records[path.relative_to(checkpoint).as_posix()] = [path.stat().st_size, files.sha256(path)]
    files.write_json(checkpoint / MARK, records)


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
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rsplit("-", 1)[1]))
    whole = []
    for path in found:
        if is_whole(path):
            whole.append(path)
        else:
            shutil.rmtree(path)
    return whole[-1] if whole else None
