"""CSV and TSV as RFC 4180 has them: a quoted cell may hold the delimiter, quotes (doubled) and line feeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import IO, Literal

from tunewright.data.findings import Rejection, excerpt
from tunewright.data.reading.layout import Layout, line_limit
from tunewright.data.reading.lines import ByteLine, Lines
from tunewright.data.reading.record import Record, decode_line, too_long

_MOST_LINES = 20_000
_DELIMITERS = (",", ";", "\t", "|")
State = Literal["closed", "open", "broken"]


class TableRow(dict[str, object]):
    """A row of a table: its cells by column, all of them text in CSV."""

    __slots__ = ()


def table_records(handle: IO[bytes], source: str, layout: Layout, max_chars: int) -> Iterator[Record]:
    """A record a row of the table, without the header. Blank lines are no rows.

    Where a quote never closes, only its first line is one record (and a bad one): it cannot swallow the rows behind.
    """
    lines = Lines(handle, layout.encoding, line_limit(max_chars))
    number = 0
    while line := lines.next():
        if line.number <= layout.header_lines:
            continue
        text = decode_line(line.data, layout.encoding, offset=line.offset, is_whole=not line.too_long)
        if isinstance(text, str) and not text.strip("\ufeff").strip():
            continue
        number += 1
        problem, payload = None, ""
        taken: list[ByteLine] = []
        if isinstance(text, Rejection):
            problem = text
        elif (chars := line.too_long or len(text)) > max_chars:
            problem = too_long(chars, max_chars, text)
        else:
            payload, taken = _with_quoted_lines(text, lines, layout, max_chars)
        size = line.size + sum(more.size for more in taken)
        yield Record(layout, source, number, line.number, line.offset, size, payload, 1 + len(taken), problem)


def _with_quoted_lines(text: str, lines: Lines, layout: Layout, max_chars: int) -> tuple[str, list[ByteLine]]:
    """The text of the row that starts with `text`, and the lines it takes beyond the first."""
    taken: list[ByteLine] = []
    state = quote_state(text.removeprefix("\ufeff"), layout.delimiter)
    parts, chars = [text], len(text)
    while state == "open" and len(taken) < _MOST_LINES and chars <= max_chars and (line := lines.next()):
        taken.append(line)
        part = decode_line(line.data, layout.encoding, offset=line.offset)
        if isinstance(part, Rejection) or line.too_long:
            break
        parts.append(part)
        chars += len(part) + 1
        state = quote_state(part, layout.delimiter, is_open=True)
    if state != "closed" or chars > max_chars:
        lines.put_back(taken)
        return text, []
    return "\n".join(parts), taken


def quote_state(line: str, delimiter: str, *, is_open: bool = False) -> State:
    """Whether a quoted cell is open at the end of `line`; broken: text stands behind a closing quote."""
    line = line.removesuffix("\r")
    at = 0
    while True:
        if not is_open and not line.startswith('"', at):
            at = line.find(delimiter, at) + 1
            if not at:
                return "closed"
            continue
        at = _closing(line, at if is_open else at + 1)
        if at < 0:
            return "open"
        if at >= len(line):
            return "closed"
        if not line.startswith(delimiter, at):
            return "broken"
        is_open, at = False, at + 1


def _closing(text: str, at: int) -> int:
    """Where the quoted cell that `at` lies in ends: behind its closing quote; -1 where it does not end."""
    while (at := text.find('"', at) + 1) and text.startswith('"', at):
        at += 1
    return at or -1


def cells(row: str, delimiter: str) -> list[str] | Rejection:
    """The cells of one row of a table."""
    row = row.removesuffix("\r")
    if '"' not in row:
        return row.split(delimiter)
    found: list[str] = []
    at = 0
    while True:
        if row.startswith('"', at):
            end = _closing(row, at + 1)
            if end < 0:
                return Rejection("COLUMNS", f"the quote that opens column {len(found) + 1} never closes", excerpt(row))
            found.append(row[at + 1 : end - 1].replace('""', '"'))
            if end < len(row) and not row.startswith(delimiter, end):
                reason = f"text stands behind the closing quote of column {len(found)}"
                return Rejection("COLUMNS", reason, excerpt(row, end))
        else:
            end = row.find(delimiter, at)
            end = len(row) if end < 0 else end
            found.append(row[at:end])
        if end >= len(row):
            return found
        at = end + 1


def table_row(text: str, columns: Sequence[str], delimiter: str) -> TableRow | Rejection:
    """The row by column, or why it does not fit the header."""
    found = cells(text, delimiter)
    if isinstance(found, Rejection):
        return found
    if len(found) != len(columns):
        reason = f"{len(found)} columns where the first line names {len(columns)} ({excerpt(', '.join(columns))})"
        return Rejection("COLUMNS", reason, excerpt(text))
    if found == list(columns):
        return Rejection("COLUMNS", "the row repeats the names of the columns", excerpt(text))
    return TableRow(zip(columns, found, strict=True))


def best_delimiter(lines: Sequence[str]) -> str:
    """The sign that divides `lines` (the first names the columns) into equally many cells, most of them."""
    best, choice = (0.0, 1), ","
    for sign in _DELIMITERS:
        found = [cells(line, sign) for line in lines]
        count = len(found[0]) if isinstance(found[0], list) else 1
        alike = sum(isinstance(row, list) and len(row) == count for row in found[1:])
        rank = (alike / max(len(found) - 1, 1), count)
        if count > 1 and rank > best:
            best, choice = rank, sign
    return choice


def header_columns(text: str, delimiter: str) -> tuple[str, ...] | Rejection:
    """The names of the columns; one without a name is called column_3 by its place. Names may not repeat."""
    found = cells(text, delimiter)
    if isinstance(found, Rejection):
        return found
    names = [name.strip() or f"column_{place}" for place, name in enumerate(found, start=1)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        return Rejection("COLUMNS", f"the first line names the column '{excerpt(twice)}' twice")
    return tuple(names)
