"""Files to rows: strict UTF-8 (or the encoding found), strict JSON, every row with its line and byte offset.

Bounded memory: one row at a time, and a row over the limit is never held or parsed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tunewright.data.reading.examine import inspect
from tunewright.data.reading.layout import Layout
from tunewright.data.reading.quarantined import source_text
from tunewright.data.reading.records import Row, parse_record, read_records

__all__ = ["Layout", "Row", "inspect", "read_rows", "source_text"]


def read_rows(path: Path, *, source: str, layout: Layout, max_chars: int, fast: bool = True) -> Iterator[Row]:
    """Yields every row of `path` in order. `source` names the file in ids and findings; fast: see parse_record."""
    for record in read_records(path, source=source, layout=layout, max_chars=max_chars):
        yield parse_record(record, fast=fast)
