"""Sealed rows: the splits as files, and what a redaction replaced."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from tunewright.core import files
from tunewright.core.chat import Conversation
from tunewright.data.collection import seldom_collected
from tunewright.data.draft import Draft, SampleRule
from tunewright.data.gather import MAPPING, Gathered
from tunewright.data.prepare import samples_of
from tunewright.data.splits.assign import Split
from tunewright.data.splits.divide import NAMES
from tunewright.data.spool import parsed, row_line


@seldom_collected()
def write_splits(
    folder: Path,
    rows: Gathered,
    splits: Sequence[Split | None],
    samplers: Sequence[SampleRule],
    *,
    label: Callable[[Conversation], Conversation] | None = None,
) -> dict[str, int]:
    """Writes train, validation and test.jsonl in reading order; returns the samples of each. label: what is done to
    each row before it is written."""
    counts: dict[str, int] = {}
    for name in NAMES:
        with files.atomic_write(folder / f"{name}.jsonl", "wb") as handle:
            chosen = (row for row, split in enumerate(splits) if split == name)
            lines = rows.spool.lines(chosen)
            counts[name] = sum(_write_samples(handle, line, samplers, label) for line in lines)
    return counts


def _write_samples(
    handle: IO[Any],
    line: bytes,
    samplers: Sequence[SampleRule],
    label: Callable[[Conversation], Conversation] | None,
) -> int:
    if not samplers and label is None:
        handle.write(line + b"\n")
        return 1
    conversation = label(parsed(line)) if label else parsed(line)
    samples = samples_of(conversation, Draft(conversation.messages, conversation.metadata), samplers)
    handle.writelines(row_line(sample.to_row()) + b"\n" for sample in samples)
    return len(samples)


def write_mapping(folder: Path, rows: Gathered) -> None:
    """What the redaction replaced, readable by the owner alone; no file where nothing is to be reversible."""
    if not rows.masked:
        return
    path = folder / MAPPING
    with files.atomic_write(path, "wb") as handle:
        os.fchmod(handle.fileno(), 0o600)  # before anything is in it
        for row_id, masked in rows.masked:
            entry = {"id": row_id, "kind": masked.kind, "placeholder": masked.placeholder, "original": masked.original}
            handle.write(row_line(entry) + b"\n")
