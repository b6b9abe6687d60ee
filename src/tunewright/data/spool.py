"""Usable rows on disk between reading and sealing: written in order, read again as often as a later step needs."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from tunewright.core.chat import Conversation
from tunewright.data.duplicates.text import row_text

_WAITING = 1 << 18
"""Bytes of rows that wait to be written."""
_BLOCK = 1 << 16
"""Bytes that are read at once for rows that follow each other."""
_EXACT = (str, bool, type(None))
"""Types whose values orjson writes as the standard library does; of numbers see `row_line`."""
_SAFE_NUMBER = 1 << 63


class Spool:
    """A file of rows, each one JSON line as it will be sealed, with random access. Removed on exit."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = _File(path)
        self._offsets, self._sizes = array("q"), array("I")

    def only(self, rows: Sequence[int]) -> Spool:
        """A view of these rows, in this order; it shares the file and is closed with the whole."""
        view = copy(self)
        view._offsets = array("q", (self._offsets[row] for row in rows))
        view._sizes = array("I", (self._sizes[row] for row in rows))
        return view

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)

    def append(self, line: bytes) -> None:
        """Adds a row: JSON without a line feed."""
        self._offsets.append(self._file.append(line))
        self._sizes.append(len(line))

    def __len__(self) -> int:
        return len(self._offsets)

    def line(self, row: int) -> bytes:
        """The JSON of row `row`, without the line feed."""
        return self._file.read(self._offsets[row], self._sizes[row])

    def lines(self, rows: Iterable[int]) -> Iterator[bytes]:
        """The JSON of `rows`, one after the other; ascending rows are read from disk many at a time."""
        start, block = 0, b""
        for row in rows:
            offset, size = self._offsets[row] - start, self._sizes[row]
            if not 0 <= offset <= len(block) - size:
                start, offset = start + offset, 0
                block = self._file.read(start, max(size, _BLOCK))
            yield block[offset : offset + size]

    def row(self, row: int) -> dict[str, Any]:
        """Row `row` as it is sealed: id, conversation, metadata."""
        found: dict[str, Any] = orjson.loads(self.line(row))
        return found

    def conversation(self, row: int) -> Conversation:
        """Row `row` as a conversation."""
        return parsed(self.line(row))


class _File:
    """Bytes that are appended and read from any place: one system call a read, a write for many rows."""

    def __init__(self, path: Path) -> None:
        self._handle = path.open("w+b", buffering=0)
        self._waiting: list[bytes] = []
        self._end = self._written = 0

    def append(self, line: bytes) -> int:
        """Writes `line` and a line feed; returns where it starts."""
        start = self._end
        self._waiting += (line, b"\n")
        self._end += len(line) + 1
        if self._end - self._written > _WAITING:
            self._flush()
        return start

    def read(self, offset: int, size: int) -> bytes:
        if self._waiting:
            self._flush()
        return os.pread(self._handle.fileno(), size, offset)

    def close(self) -> None:
        self._waiting = []
        self._handle.close()

    def _flush(self) -> None:
        data = memoryview(b"".join(self._waiting))
        while data:
            data = data[self._handle.write(data) :]
        self._waiting, self._written = [], self._end


def parsed(line: bytes) -> Conversation:
    """The conversation of a sealed row."""
    return Conversation.from_row(orjson.loads(line))


class Texts:
    """The texts of some rows of a spool, as the search for near duplicates reads them."""

    def __init__(self, spool: Spool, rows: Sequence[int]) -> None:
        self._spool, self._rows = spool, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, position: int) -> str:
        return row_text(self._spool.row(self._rows[position])["conversation"])

    def __iter__(self) -> Iterator[str]:
        return (row_text(orjson.loads(line)["conversation"]) for line in self._spool.lines(self._rows))


def row_line(row: Mapping[str, Any], *, fast: bool = True) -> bytes:
    """A row as it is sealed: as the standard library writes it without blanks.

    fast: orjson writes rows in which nothing stands that it writes otherwise (floats: 1e-05 and 1e-5), refuses
    (integers beyond 64 bits) or takes for null (NaN); False leaves every row to the standard library.
    """
    if fast and _is_plain(row):
        try:
            return orjson.dumps(row)
        except orjson.JSONEncodeError:  # nested beyond its limit, or half a surrogate pair
            pass
    return json.dumps(row, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _is_plain(value: Any) -> bool:
    """Whether orjson is known to write the same bytes."""
    kind = type(value)
    if kind in _EXACT:
        return True
    if kind is dict:
        return all((type(item) is str or _is_plain(item)) and type(key) is str for key, item in value.items())
    if kind is list or kind is tuple:
        return all(type(item) is str or _is_plain(item) for item in value)
    return kind is int and -_SAFE_NUMBER <= value < _SAFE_NUMBER
