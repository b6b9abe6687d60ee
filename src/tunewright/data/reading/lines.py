"""Bytes to lines, split on line feed only, in bounded memory: a line over the limit is skipped, not held."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

_CHUNK = 1 << 20
_CONTINUATION = bytes(range(0x80, 0xC0))


@dataclass(frozen=True, slots=True)
class ByteLine:
    """number: from 1; offset: in bytes; size: bytes with the line feed; data: without it, at most the limit.

    too_long: characters of a line whose data was cut off, 0 otherwise.
    """

    number: int
    offset: int
    size: int
    data: bytes
    too_long: int = 0


def byte_lines(handle: IO[bytes], encoding: str, limit: int) -> Iterator[ByteLine]:
    """Lines from the handle's position on. limit: bytes of a line that are held; the rest is counted and skipped."""
    wide = encoding.startswith("utf-16")
    offset, number = handle.tell(), 0
    while True:
        data = _wide_line(handle, encoding, limit) if wide else handle.readline(limit)
        if not data:
            return
        number += 1
        size, too_long = len(data), 0
        if len(data) >= limit and not _ends(data, encoding):
            too_long = _count(data, encoding)
            while rest := (_wide_line(handle, encoding, _CHUNK) if wide else handle.readline(_CHUNK)):
                size += len(rest)
                too_long += _count(rest, encoding)
                if _ends(rest, encoding):
                    too_long -= 1
                    break
        yield ByteLine(number, offset, size, _chomp(data, encoding), too_long)
        offset += size


def _wide_line(handle: IO[bytes], encoding: str, limit: int) -> bytes:
    """A UTF-16 line: 0x0A is a line feed only as a whole unit."""
    data = b""
    limit += limit % 2
    while len(data) < limit:
        piece = handle.readline(limit - len(data))
        data += piece
        if len(data) % 2 and piece:
            data += handle.read(1)
        if not piece or _ends(data, encoding):
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
