"""Writing files so that a kill or a full disk never leaves something half-written that looks whole."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tunewright.core.errors import ResourceError

CHUNK = 1 << 20


@contextmanager
def atomic_write(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Opens a temporary neighbour of `path`; on success fsync and rename, on failure nothing is left.

    Raises ResourceError when the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    encoding, newline = (None, None) if "b" in mode else ("utf-8", "\n")
    try:
        with disk_errors(path), temporary.open(mode, encoding=encoding, newline=newline) as handle:
            yield handle
            fsync_handle(handle)
        with disk_errors(path):
            temporary.replace(path)
            fsync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns "no space left" into a ResourceError that names the place."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ResourceError(
                "the disk is full",
                where=str(path),
                fix="free space, or `tunewright runs prune --keep 1`, then run again",
            ) from None
        raise


def fsync_handle(handle: IO[Any]) -> None:
    """Makes what was written durable."""
    if handle.writable():
        handle.flush()
    os.fsync(handle.fileno())


def fsync_directory(path: Path) -> None:
    """Makes renames in `path` durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Atomically replaces `path` by `text` in UTF-8."""
    with atomic_write(path) as handle:
        handle.write(text)


def write_json(path: Path, value: Any) -> None:
    """Atomically writes `value` as indented JSON; NaN and Infinity are refused."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterator[Any] | list[Any]) -> None:
    """Atomically writes one compact JSON document a line."""
    with atomic_write(path) as handle:
        for row in rows:
            handle.write(json.dumps(row, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n")


def sha256(path: Path) -> str:
    """Hex digest of the file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


def link_or_copy(source: Path, target: Path) -> None:
    """Puts the unchanged file `source` at `target` as a hard link, or as a copy on another file system."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        with disk_errors(target):
            shutil.copyfile(source, target)


def link_tree(source: Path, target: Path) -> None:
    """Hard-links every file below `source` to the same place below `target`."""
    for path in sorted(source.rglob("*")):
        if path.is_file():
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(path, place)


def human_bytes(count: float) -> str:
    """1 500 000 -> '1.5 MB' (decimal units, as disks and the facts page count)."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
