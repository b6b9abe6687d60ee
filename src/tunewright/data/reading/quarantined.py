"""Rows of quarantine.jsonl, which are fed in again once they are mended: the row is the text inside."""

from __future__ import annotations

from typing import Any

from tunewright.data.findings import Rejection, excerpt
from tunewright.data.reading.strict_json import Parsed, parse
from tunewright.data.reading.table_file import best_delimiter, header_columns, quote_state, table_row

_KEYS = {"raw", "code", "byte_offset"}
_MOST_LAYERS = 100


def source_text(row: Any) -> Any:
    """The original text inside a row of quarantine.jsonl; None for any other row."""
    return row.get("raw") if isinstance(row, dict) and row.keys() >= _KEYS else None


def reopen(text: str, *, line: int) -> tuple[str, Parsed | Rejection]:
    """(the innermost text, what it holds). A row that was quarantined twice is a row in a row."""
    for _ in range(_MOST_LAYERS):
        content = _from_table(text) if _is_table(text) else parse(text, line=line)
        deeper = source_text(content.value) if isinstance(content, Parsed) else None
        if not isinstance(deeper, str):
            break
        text = deeper
    return text, content


def _is_table(text: str) -> bool:
    bare = text.strip()
    return bare[:1] not in ("{", "[") and "\n" in bare


def _from_table(text: str) -> Parsed | Rejection:
    """A line with the names of the columns, then one row."""
    lines = text.strip("\r\n").split("\n")
    delimiter = best_delimiter(lines)
    records = _records(lines, delimiter)
    if len(records) != 2:
        return Rejection("COLUMNS", f"{len(records) - 1} rows below the names of the columns, not one", excerpt(text))
    columns = header_columns(records[0], delimiter)
    if isinstance(columns, Rejection):
        return columns
    row = table_row(records[1], columns, delimiter)
    return row if isinstance(row, Rejection) else Parsed(row)


def _records(lines: list[str], delimiter: str) -> list[str]:
    found: list[str] = []
    is_open = False
    for line in lines:
        if is_open:
            found[-1] += f"\n{line}"
        else:
            found.append(line)
        is_open = quote_state(line, delimiter, is_open=is_open) == "open"
    return found
