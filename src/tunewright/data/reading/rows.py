"""Files to rows: strict UTF-8 (or the encoding found), strict JSON, every row with its line and byte offset.

Bounded memory: one row at a time, and a row over the limit is never held or parsed.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tunewright.core.errors import ArtifactError, ConfigError
from tunewright.data.findings import Note, Place, Rejection, excerpt, printable
from tunewright.data.reading import array_file, encoding
from tunewright.data.reading.lines import ByteLine, byte_lines
from tunewright.data.reading.strict_json import Parsed, parse

_NOT_READ = {".csv", ".tsv", ".parquet", ".xlsx", ".gz", ".zst", ".zip", ".arrow"}
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")
_BYTES_PER_CHAR = 4


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file is read. `shape` array: the rows are the elements of one JSON array."""

    encoding: encoding.Encoding
    shape: Literal["jsonl", "array"]


@dataclass(frozen=True, slots=True)
class Row:
    """A row as read. number: from 1, blank lines not counted; size: bytes; raw: its text, None where it has none.

    content: the parsed document with its notes, or why there is none.
    """

    id: str
    place: Place
    number: int
    size: int
    raw: str | None
    content: Parsed | Rejection


def inspect(path: Path, *, max_chars: int, wanted: str = "auto") -> Layout:
    """Finds encoding and shape. Raises ArtifactError for a missing, empty or unreadable file, ConfigError for a
    format that is not read."""
    _check(path)
    found = encoding.detect(path, line_limit=_limit(max_chars), wanted=wanted)
    return Layout(found, "array" if array_file.looks_like_array(path, found) else "jsonl")


def _check(path: Path) -> None:
    where = str(path)
    if path.is_dir():
        raise ArtifactError("this data source is a directory", where=where, fix="name the files in it one by one")
    if not path.exists():
        raise ArtifactError("there is no such data source", where=where, fix="check data.sources in the project file")
    if path.suffix.lower() in _NOT_READ:
        raise ConfigError(
            f"{path.suffix} files are not read", where=where, fix="convert it to JSONL, one conversation a line"
        )
    try:
        with path.open("rb") as handle:
            is_empty = not handle.read(1)
    except PermissionError:
        raise ArtifactError("the file may not be read", where=where, fix="check its permissions") from None
    if is_empty:
        raise ArtifactError("the data source is empty", where=where, fix="give a file with at least one conversation")


def read_rows(path: Path, *, source: str, layout: Layout, max_chars: int) -> Iterator[Row]:
    """Yields every row of `path` in order. `source` names the file in ids and findings."""
    rows = _array_rows if layout.shape == "array" else _line_rows
    yield from rows(path, source, layout, max_chars)


def _limit(max_chars: int) -> int:
    return max_chars * _BYTES_PER_CHAR + 16


def _line_rows(path: Path, source: str, layout: Layout, max_chars: int) -> Iterator[Row]:
    number = 0
    with path.open("rb") as handle:
        if layout.encoding.startswith("utf-16"):
            handle.seek(len(codecs.BOM_UTF16))
        for line in byte_lines(handle, layout.encoding, _limit(max_chars)):
            text = _decode(line, layout.encoding)
            if isinstance(text, str) and not text.strip("\ufeff").strip():
                continue
            number += 1
            place = Place(source, line.number, line.offset)
            chars = line.too_long or (len(text) if isinstance(text, str) else 0)
            yield _row(place, number, size=line.size, text=text, chars=chars, layout=layout, max_chars=max_chars)


def _decode(line: ByteLine, codec: str) -> str | Rejection:
    try:
        return line.data.decode(codec, "surrogatepass" if codec.startswith("utf-16") else "strict")
    except UnicodeDecodeError as error:
        if line.too_long:
            return line.data[: error.start].decode(codec, "replace")
        return _undecodable(line.data, error.start, line.offset, codec)


def _undecodable(data: bytes, at: int, offset: int, codec: str) -> Rejection:
    shown = data[max(0, at - 20) : at + 20].decode(codec if codec == "utf-8" else "ascii", "backslashreplace")
    reason = f"byte 0x{data[at]:02x} at offset {offset + at} of the file is not valid {codec.upper()}"
    return Rejection("BAD_UTF8", reason, printable(shown))


def _array_rows(path: Path, source: str, layout: Layout, max_chars: int) -> Iterator[Row]:
    number = 0
    with path.open("rb") as handle:
        if layout.encoding.startswith("utf-16"):
            handle.seek(len(codecs.BOM_UTF16))
        for element in array_file.elements(handle, layout.encoding, max_chars):
            number += 1
            place = Place(source, element.line, element.offset)
            text: str | Rejection = element.text
            if not layout.encoding.startswith("utf-16") and _ESCAPED_BYTE.search(element.text):
                data = element.text.encode(layout.encoding, "surrogateescape")
                text = _undecodable(data, _first_bad(data, layout.encoding), element.offset, layout.encoding)
            yield _row(
                place, number, size=element.size, text=text, chars=element.chars, layout=layout, max_chars=max_chars
            )


def _first_bad(data: bytes, codec: str) -> int:
    try:
        data.decode(codec)
    except UnicodeDecodeError as error:
        return error.start
    return 0


def _row(
    place: Place,
    number: int,
    *,
    size: int,
    text: str | Rejection,
    chars: int,
    layout: Layout,
    max_chars: int,
) -> Row:
    row_id = f"{place.source}:{place.line}" if layout.shape == "jsonl" else f"{place.source}#{number}"
    if chars > max_chars:
        shown = excerpt(text) if isinstance(text, str) else text.excerpt
        content: Parsed | Rejection = Rejection("TOO_LONG", f"{chars} characters, limit {max_chars}", shown)
        return Row(row_id, place, number, size, None, content)
    if isinstance(text, Rejection):
        return Row(row_id, place, number, size, None, text)
    bare = text.lstrip("\ufeff")
    content = parse(bare, line=place.line)
    if isinstance(content, Parsed):
        content = Parsed(content.value, (*_file_notes(text, bare, layout), *content.notes))
    return Row(row_id, place, number, size, printable(bare.rstrip("\r\n")), content)


def _file_notes(text: str, bare: str, layout: Layout) -> Iterator[Note]:
    if text != bare:
        yield Note("BOM", "repaired", "byte order mark in front of the row left out", excerpt(bare))
    if layout.encoding != "utf-8":
        yield Note("ENCODING", "repaired", f"read as {layout.encoding.upper()}, written as UTF-8", excerpt(bare))
    if layout.shape == "array":
        yield Note("ARRAY", "repaired", "element of a JSON array, read as a row", excerpt(bare))


def source_text(row: Any) -> Any:
    """The original text inside a row of quarantine.jsonl, so that a mended quarantine can be fed back in."""
    return row.get("raw") if isinstance(row, dict) and {"raw", "code", "byte_offset"} <= row.keys() else None
