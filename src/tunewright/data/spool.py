"""Usable rows on disk between reading and sealing: written in order, read again as often as a later step needs."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Sequence
from copy import copy
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from tunewright.core.chat import Conversation, Message
from tunewright.data.duplicates.text import conversation_text


class Spool:
    """A file of rows, each one JSON line as it will be sealed, with random access. Removed on exit."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle = path.open("w+b")
        self._offsets = array("q")
        self._end = 0

    def only(self, rows: Sequence[int]) -> Spool:
        """A view of these rows, in this order; it shares the file and is closed with the whole."""
        view = copy(self)
        view._offsets = array("q", (self._offsets[row] for row in rows))
        return view

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.close()
        self._path.unlink(missing_ok=True)

    def append(self, line: bytes) -> None:
        """Adds a row: JSON without a line feed."""
        self._offsets.append(self._end)
        self._handle.write(line)
        self._handle.write(b"\n")
        self._end += len(line) + 1

    def __len__(self) -> int:
        return len(self._offsets)

    def line(self, row: int) -> bytes:
        """The JSON of row `row`, without the line feed."""
        self._handle.flush()
        self._handle.seek(self._offsets[row])
        return self._handle.readline()[:-1]

    def conversation(self, row: int) -> Conversation:
        """Row `row` as a conversation."""
        return parsed(self.line(row))


def parsed(line: bytes) -> Conversation:
    """The conversation of a sealed row. This process wrote it, so it is not validated again."""
    row = orjson.loads(line)
    messages = tuple(_message(turn) for turn in row["conversation"])
    return Conversation.model_construct(id=row["id"], messages=messages, metadata=row["metadata"])


def _message(turn: dict[str, Any]) -> Message:
    calls = tuple(turn.get("tool_calls", ()))
    return Message.model_construct(
        role=turn["role"], content=turn["content"], train=turn.get("train"), tool_calls=calls
    )


class Texts:
    """The texts of some rows of a spool, as the search for near duplicates reads them."""

    def __init__(self, spool: Spool, rows: Sequence[int]) -> None:
        self._spool, self._rows = spool, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, position: int) -> str:
        return conversation_text(self._spool.conversation(self._rows[position]))

    def __iter__(self) -> Iterator[str]:
        return (self[position] for position in range(len(self)))


def row_line(row: dict[str, Any]) -> bytes:
    """A row as it is sealed. The standard library writes it: orjson refuses integers beyond 64 bits."""
    return json.dumps(row, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
