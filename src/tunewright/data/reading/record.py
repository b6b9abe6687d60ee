"""A row before it is parsed: its bytes or text and its place. Cheap to make, and it can be sent to a worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tunewright.data.findings import Place, Rejection, excerpt, printable
from tunewright.data.reading.layout import Layout


@dataclass(slots=True)
class Record:
    """number: of the row, from 1, blank lines not counted; line: from 1 (Parquet: the row's number); offset and size:
    in bytes of the unpacked file (Parquet: 0, and an even share of the file).

    payload: one JSON document (bytes are UTF-8), the text of a table's row, or a dict of Python values (Parquet).
    lines: of the file that it takes. problem: why it is not even parsed. Nothing changes a record; it is not frozen
    because there is one a row and a frozen dataclass takes five times as long to make.
    """

    layout: Layout
    source: str
    number: int
    line: int
    offset: int
    size: int
    payload: bytes | str | dict[str, Any]
    lines: int = 1
    problem: Rejection | None = None
    is_cut: bool = False
    """The last element of an array that never ends."""

    @property
    def id(self) -> str:
        """Stable: the source's name and the line, or the number of the element."""
        return f"{self.source}#{self.number}" if self.layout.shape == "array" else f"{self.source}:{self.line}"

    @property
    def place(self) -> Place:
        """Where the row starts."""
        return Place(self.source, self.line, self.offset)


def too_long(chars: int, max_chars: int, text: str) -> Rejection:
    """A row over the limit is not parsed."""
    return Rejection("TOO_LONG", f"{chars} characters, limit {max_chars}", excerpt(text))


def undecodable(data: bytes, at: int, offset: int, codec: str) -> Rejection:
    """data: of the row; at: its first bad byte; offset: of the row in the file."""
    shown = data[max(0, at - 20) : at + 20].decode(codec if codec == "utf-8" else "ascii", "backslashreplace")
    reason = f"byte 0x{data[at]:02x} at offset {offset + at} of the file is not valid {codec.upper()}"
    return Rejection("BAD_UTF8", reason, printable(shown))


def decode_line(data: bytes, codec: str, *, offset: int, is_whole: bool = True) -> str | Rejection:
    """The text of a line; of one that was cut at the limit, what can be read of it."""
    try:
        return data.decode(codec, "surrogatepass" if codec.startswith("utf-16") else "strict")
    except UnicodeDecodeError as error:
        if is_whole:
            return undecodable(data, error.start, offset, codec)
        return data[: error.start].decode(codec, "replace")
