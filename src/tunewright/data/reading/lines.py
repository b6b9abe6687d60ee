"""Bytes to lines, split on line feed only, in bounded memory: a line over the limit is skipped, not held."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO

_CHUNK = 1 << 20
_CONTINUATION = bytes(range(0x80, 0xC0))


@dataclass(slots=True)
class ByteLine:
    """number: from 1; offset: in bytes; size: bytes with the line feed; data: without it, at most the limit.

    too_long: characters of a line whose data was cut off, 0 otherwise. Not frozen, because there is one a row: a
    frozen dataclass takes five times as long to make. Nothing changes one.
    """

    number: int
    offset: int
    size: int
    data: bytes
    too_long: int = 0


class Lines:
    """The lines of a stream, some of which may be put back to be read again."""

    def __init__(self, handle: IO[bytes], encoding: str, limit: int) -> None:
        """limit: bytes of a line that are held; the rest is counted and skipped. A UTF-16 mark is passed over."""
        self.encoding = encoding
        self._handle, self._limit = handle, limit
        self._wide = encoding.startswith("utf-16")
        self._offset = self._number = 0
        self._back: deque[ByteLine] = deque()
        self._begun = b""
        if self._wide:
            self._offset = len(handle.read(len(codecs.BOM_UTF16)))

    def __iter__(self) -> Iterator[ByteLine]:
        while line := self.next():
            yield line

    def next(self) -> ByteLine | None:
        """The next line, None at the end."""
        if self._back:
            return self._back.popleft()
        begun, self._begun = self._begun, b""
        data = begun if begun.endswith(b"\n") else begun + self._take(self._limit - len(begun))
        if not data:
            return None
        size, too_long = len(data), 0
        if self._wide or size >= self._limit or data[-1] != 10:  # a plain line that ends is the common case
            size, too_long, data = self._odd(data)
        else:
            data = data[:-1]
        self._number += 1
        line = ByteLine(self._number, self._offset, size, data, too_long)
        self._offset += size
        return line

    def plain(self, most: int, ends: tuple[bytes, ...]) -> Iterator[tuple[int, int, bytes]]:
        """(number, offset, data) of the lines up to the first one that is longer than `most` bytes, does not end with
        one of `ends` (line feed included) or comes last; that one is what `next` gives then. Not for UTF-16."""
        if self._back:
            return
        number, offset, readline = self._number, self._offset, self._handle.readline
        limit = min(most, self._limit - 1) + 1
        while True:
            data = readline(limit)
            size = len(data)
            if size == limit or not data.endswith(ends):
                self._number, self._offset, self._begun = number, offset, data
                return
            number += 1
            yield number, offset, data
            offset += size

    def put_back(self, lines: Iterable[ByteLine]) -> None:
        """`lines` come again, in this order, before any other."""
        self._back.extendleft(reversed(list(lines)))

    def _take(self, limit: int) -> bytes:
        return self._wide_line(limit) if self._wide else self._handle.readline(limit)

    def _odd(self, data: bytes) -> tuple[int, int, bytes]:
        size, too_long = len(data), 0
        if size >= self._limit and not _ends(data, self.encoding):
            too_long = _count(data, self.encoding)
            while rest := self._take(_CHUNK):
                size += len(rest)
                too_long += _count(rest, self.encoding)
                if _ends(rest, self.encoding):
                    too_long -= 1
                    break
        return size, too_long, _chomp(data, self.encoding)

    def _wide_line(self, limit: int) -> bytes:
        """A UTF-16 line: 0x0A is a line feed only as a whole unit."""
        data = b""
        limit += limit % 2
        while len(data) < limit:
            piece = self._handle.readline(limit - len(data))
            data += piece
            if len(data) % 2 and piece:
                data += self._handle.read(1)
            if not piece or _ends(data, self.encoding):
                break
        return data


def _ends(data: bytes, encoding: str) -> bool:
    if encoding == "utf-16-le":
        return len(data) % 2 == 0 and data.endswith(b"\n\x00")
    if encoding == "utf-16-be":
        return len(data) % 2 == 0 and data.endswith(b"\x00\n")
    return data.endswith(b"\n")


def _chomp(data: bytes, encoding: str) -> bytes:
    if not _ends(data, encoding):
        return data
    return data[:-2] if encoding.startswith("utf-16") else data[:-1]


def _count(data: bytes, encoding: str) -> int:
    """Characters in `data`, near enough for a line that is far too long."""
    if encoding.startswith("utf-16"):
        return len(data) // 2
    return len(data.translate(None, _CONTINUATION)) if encoding == "utf-8" else len(data)
