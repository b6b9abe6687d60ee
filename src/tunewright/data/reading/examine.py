"""Looking at a file before it is read: whether it can be, and how."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

from tunewright.core.errors import ArtifactError, ConfigError
from tunewright.data.findings import Rejection, excerpt
from tunewright.data.reading import encoding, streams
from tunewright.data.reading.array_file import looks_like_array
from tunewright.data.reading.json_file import json_records
from tunewright.data.reading.layout import Layout, Shape, line_limit
from tunewright.data.reading.lines import Lines
from tunewright.data.reading.parquet_file import MAGIC, parquet_records
from tunewright.data.reading.strict_json import Parsed, parse
from tunewright.data.reading.table_file import best_delimiter, header_columns, quote_state

_HEAD = 1 << 16
_TABLES = (".csv", ".tsv", ".tab")
_JSON = (".jsonl", ".json", ".ndjson", ".jsonlines")
_LONGEST_NAME = 80
_SAMPLE_LINES = 12
_NAMED_DELIMITER = re.compile(r"sep=(.)")
"""The first line of some tables that Excel wrote."""
_HEADER_FIX = "the first line of a table names its columns, for example question,answer"
_SIGNS: tuple[tuple[bytes, str, str], ...] = (
    (b"PK\x03\x04", "ZIP archives are not read", "unpack it and name the files in it"),
    (b"ARROW1", "Arrow files are not read", "write it as Parquet or JSONL"),
    (b"\xff\xff\xff\xff", "Arrow streams are not read", "write it as Parquet or JSONL"),
    (b"\xd0\xcf\x11\xe0", "Excel workbooks are not read", "save the sheet as CSV in UTF-8"),
    (b"BZh", "bzip2 files are not read", "unpack it, or pack it with gzip or Zstandard"),
    (b"\xfd7zXZ\x00", "xz files are not read", "unpack it, or pack it with gzip or Zstandard"),
    (b"7z\xbc\xaf", "7z archives are not read", "unpack it and name the files in it"),
    (b"%PDF", "PDF files are not read", "bring its conversations into JSONL or CSV"),
)
_TEXT_PROBLEM = "the file is plain text without a JSON row or a table"
_TEXT_FIX = "bring it into JSONL (one conversation a line), or name it .csv or .tsv where it is a table"


class _Line(NamedTuple):
    number: int
    text: str


def inspect(path: Path, *, max_chars: int, wanted: str = "auto") -> Layout:
    """How to read `path`; wanted: its encoding, or auto.

    Raises ArtifactError for a missing, empty, damaged or unreadable file, ConfigError for a format that is not read,
    MissingExtraError for one that needs a library which is not installed.
    """
    packing = _check(path)
    opener = partial(streams.open_bytes, path, packing)
    with opener() as handle:
        head = handle.read(_HEAD)
    if not head:
        raise ArtifactError("the data source is empty", where=str(path), fix="give a file with at least one row")
    _refuse(path, head)
    if head.startswith(MAGIC):
        return _parquet(path, packing, max_chars)
    found = encoding.detect(opener, line_limit=line_limit(max_chars), wanted=wanted, where=str(path))
    text = head.decode(found, "replace")
    layout = Layout(found, "jsonl", packing, has_mark=text.startswith("\ufeff"))
    text = text.lstrip("\ufeff")
    if streams.inner_suffix(path) in _TABLES and not _is_json(text):
        return _table(path, layout, opener, max_chars)
    if looks_like_array(text):
        return replace(layout, shape="array")
    if streams.inner_suffix(path) not in _JSON and not any(line.lstrip().startswith("{") for line in text.split("\n")):
        raise ConfigError(_TEXT_PROBLEM, where=str(path), fix=_TEXT_FIX)
    with opener() as handle:
        first = next(json_records(handle, "", layout, max_chars), None)
    return replace(layout, shape="objects") if first and first.lines > 1 else layout


def _check(path: Path) -> streams.Compression:
    where = str(path)
    if path.is_dir():
        raise ArtifactError("this data source is a directory", where=where, fix="name the files in it one by one")
    if not path.exists():
        raise ArtifactError("there is no such data source", where=where, fix="check data.sources in the project file")
    try:
        return streams.find_compression(path)
    except PermissionError:
        raise ArtifactError("the file may not be read", where=where, fix="check its permissions") from None


def _refuse(path: Path, head: bytes) -> None:
    for sign, problem, fix in _SIGNS:
        if not head.startswith(sign):
            continue
        if sign.startswith(b"PK") and streams.inner_suffix(path) in (".xlsx", ".xlsm"):
            problem, fix = "Excel workbooks are not read", "save the sheet as CSV in UTF-8"
        raise ConfigError(problem, where=str(path), fix=fix)
    if head[257:262] == b"ustar":
        raise ConfigError("tar archives are not read", where=str(path), fix="unpack it and name the files in it")


def _parquet(path: Path, packing: streams.Compression, max_chars: int) -> Layout:
    if packing != "none":
        problem = "Parquet inside another archive is not read"
        raise ConfigError(problem, where=str(path), fix="unpack it; Parquet is packed by itself")
    layout = Layout("utf-8", "parquet")
    if next(parquet_records(path, "", layout, max_chars), None) is None:
        raise ArtifactError("the data source has no rows", where=str(path), fix="give a file with at least one row")
    return layout


def _is_json(text: str) -> bool:
    """Whether a file that is named as a table holds JSON all the same."""
    first = text.lstrip().split("\n", 1)[0]
    return first.startswith("{") and isinstance(parse(first, line=1), Parsed)


def _table(path: Path, layout: Layout, opener: encoding.Opener, max_chars: int) -> Layout:
    with opener() as handle:
        lines = _first_lines(handle, layout, max_chars)
    wanted = "" if streams.inner_suffix(path) == ".csv" else "\t"
    if lines and (named := _NAMED_DELIMITER.fullmatch(lines[0].text)):
        wanted = named[1]
        del lines[0]
    if not lines:
        raise ArtifactError("the table has no line with column names", where=str(path), fix=_HEADER_FIX)
    delimiter = wanted or best_delimiter([line.text for line in lines])
    header, is_open = lines[0].text, False
    for count, line in enumerate(lines):
        header = f"{header}\n{line.text}" if count else line.text
        last = line.number
        if not (is_open := quote_state(line.text, delimiter, is_open=is_open) == "open"):
            break
    columns = header_columns(header, delimiter)
    problem = columns.reason if isinstance(columns, Rejection) else _header_problem(header, columns)
    if isinstance(columns, Rejection) or problem:
        raise ArtifactError(problem, where=f"{path}, line {lines[0].number}", fix=_HEADER_FIX)
    shape: Shape = "tsv" if delimiter == "\t" else "csv"
    return replace(layout, shape=shape, delimiter=delimiter, columns=columns, header=header, header_lines=last)


def _first_lines(handle: IO[bytes], layout: Layout, max_chars: int) -> list[_Line]:
    found: list[_Line] = []
    for line in Lines(handle, layout.encoding, line_limit(max_chars)):
        text = line.data.decode(layout.encoding, "backslashreplace").lstrip("\ufeff").removesuffix("\r")
        if text.strip():
            found.append(_Line(line.number, text))
        if len(found) == _SAMPLE_LINES:
            break
    return found


def _header_problem(header: str, columns: tuple[str, ...]) -> str:
    if "\r" in header:
        return "the lines of the table end with a carriage return only"
    if len(columns) == 1:
        return f"the table has one column only ({excerpt(columns[0])})"
    if any(len(name) > _LONGEST_NAME for name in columns):
        return "the first line of the table holds long texts instead of the names of its columns"
    return ""
