"""The two halves of reading: records from a file, in order and cheap, and one record to a row, anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tunewright.data.findings import Note, Place, Rejection, excerpt, printable
from tunewright.data.reading.array_file import array_records
from tunewright.data.reading.fast_json import parse_exactly
from tunewright.data.reading.json_file import json_records
from tunewright.data.reading.layout import Layout
from tunewright.data.reading.parquet_file import parquet_records, row_text, row_value
from tunewright.data.reading.quarantined import reopen, source_text
from tunewright.data.reading.record import Record, decode_line
from tunewright.data.reading.streams import open_bytes
from tunewright.data.reading.strict_json import Parsed, parse, without_surrogates
from tunewright.data.reading.table_file import TableRow, table_records, table_row

_LINES = ("jsonl", "objects")
"""Shapes whose first row stands right behind the file's mark."""
_READERS = {
    "jsonl": json_records,
    "objects": json_records,
    "array": array_records,
    "csv": table_records,
    "tsv": table_records,
}


@dataclass(slots=True)
class Row:
    """A row as read. content: the parsed document with its notes, or why there is none.

    reopened: where the row came out of a quarantine, its own text. Nothing changes a row; see Record.
    """

    record: Record
    content: Parsed | Rejection
    reopened: str | None = None

    @property
    def id(self) -> str:
        """Stable: the source's name and the line, or the number of the element."""
        return self.record.id

    @property
    def place(self) -> Place:
        """Where the row starts."""
        return self.record.place

    @property
    def number(self) -> int:
        """From 1, blank lines not counted."""
        return self.record.number

    @property
    def size(self) -> int:
        """Bytes of the unpacked file; of Parquet, an even share of the file."""
        return self.record.size

    @property
    def raw(self) -> str | None:
        """The row's text, to be mended and fed in again: of a table with the line of its column names in front. None
        where it is over the limit or has bytes that do not decode."""
        if self.reopened is not None:
            return printable(self.reopened)
        record = self.record
        if record.problem:
            return None
        if isinstance(record.payload, dict):
            return row_text(record.payload)
        if isinstance(record.payload, str):
            text = record.payload
        elif isinstance(decoded := decode_line(record.payload, "utf-8", offset=record.offset), str):
            text = decoded
        else:
            return None
        header = f"{record.layout.header}\n" if record.layout.header else ""
        return printable(header + text.lstrip("\ufeff").rstrip("\r\n"))


def read_records(
    path: Path, *, source: str, layout: Layout, max_chars: int, opened: Callable[[IO[bytes]], None] | None = None
) -> Iterator[Record]:
    """Every row of `path` in order, unparsed, one in memory at a time. `source` names the file in ids and findings.

    opened: gets the stream before it is read, for `streams.packed_position`; Parquet has none.

    Raises ArtifactError for an archive or a Parquet file that is damaged, MissingExtraError for a missing library.
    """
    if layout.shape == "parquet":
        yield from parquet_records(path, source, layout, max_chars)
        return
    with open_bytes(path, layout.compression) as handle:
        if opened:
            opened(handle)
        yield from _READERS[layout.shape](handle, source, layout, max_chars)


def parse_record(record: Record, *, fast: bool = True) -> Row:
    """The row of a record: pure, and all of the work that is worth a worker.

    fast: JSON may be read by orjson where that is proven to be the same; False leaves every row to the strict reader.
    """
    if record.problem:
        return Row(record, record.problem)
    payload = record.payload
    if type(payload) is bytes:
        content: Parsed | Rejection | None = parse_exactly(payload) if fast else None
        if content is None:
            text = decode_line(payload, "utf-8", offset=record.offset)
            content = _from_text(text, record, fast=False) if isinstance(text, str) else text
    elif isinstance(payload, dict):
        content = Parsed(row_value(payload))
    else:
        content = _from_text(str(payload), record, fast=fast)
    if type(content) is Parsed and type(content.value) is dict and "raw" in content.value:
        return _maybe_reopened(record, content)
    return Row(record, content)


def _from_text(text: str, record: Record, *, fast: bool) -> Parsed | Rejection:
    bare = text.lstrip("\ufeff")
    if record.layout.columns:
        content = _from_cells(bare, record.layout)
    else:
        content = (_fast(bare) if fast else None) or parse(bare, line=record.line)
    if isinstance(content, Rejection):
        return content
    return Parsed(content.value, (*_file_notes(text, bare, record), *content.notes))


def _from_cells(text: str, layout: Layout) -> Parsed | Rejection:
    row = table_row(text, layout.columns, layout.delimiter)
    if isinstance(row, Rejection) or layout.encoding == "utf-8":
        return row if isinstance(row, Rejection) else Parsed(row)
    plain, notes = without_surrogates(row, text)  # UTF-16 may hold half a pair
    return Parsed(TableRow(plain), notes)


def _fast(text: str) -> Parsed | None:
    try:
        return parse_exactly(text.encode())
    except UnicodeEncodeError:  # half a surrogate pair, which the strict reader removes
        return None


def _file_notes(text: str, bare: str, record: Record) -> Iterator[Note]:
    layout, shown = record.layout, excerpt(bare)
    if text != bare:
        yield Note("BOM", "repaired", "byte order mark in front of the row left out", shown)
    elif layout.has_mark and record.number == 1 and layout.encoding == "utf-8" and layout.shape not in _LINES:
        front = "column names" if layout.columns else "array"
        yield Note("BOM", "repaired", f"byte order mark in front of the {front} left out", shown)
    if layout.encoding != "utf-8":
        yield Note("ENCODING", "repaired", f"read as {layout.encoding.upper()}, written as UTF-8", shown)
    if layout.shape == "array":
        end = "; the array does not end, so the file may be cut off" if record.is_cut else ""
        yield Note("ARRAY", "repaired", f"element of a JSON array, read as a row{end}", shown)
    elif record.lines > 1 and not layout.columns:
        yield Note("MULTILINE", "repaired", f"an object over {record.lines} lines is read as one row", shown)


def _maybe_reopened(record: Record, outer: Parsed) -> Row:
    original: Any = source_text(outer.value)
    if not isinstance(original, str):
        return Row(record, outer)
    text, inner = reopen(original, line=record.line)
    if isinstance(inner, Parsed):
        inner = Parsed(inner.value, (*outer.notes, *inner.notes))
    return Row(record, inner, reopened=text)
