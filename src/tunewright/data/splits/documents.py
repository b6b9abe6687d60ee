"""Rows as the leakage table reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_BATCH = 512
_CHARS = 1 << 18


@dataclass(slots=True)
class Document:
    """A row for the table. question: normalised; text: its turns without system turns; group: value of group_by."""

    id: str
    question: str
    text: str
    group: str | None = None


def batched(rows: Iterable[Document]) -> Iterator[list[Document]]:
    """Runs of rows, few enough and short enough to be held."""
    batch: list[Document] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row.text)
        if len(batch) == _BATCH or size > _CHARS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
