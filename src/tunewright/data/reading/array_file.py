"""A JSON array as a stream of elements: one element in memory at a time."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from tunewright.data.findings import Rejection
from tunewright.data.reading.layout import Layout
from tunewright.data.reading.record import Record, too_long, undecodable
from tunewright.data.reading.strict_json import Parsed, parse

_CHUNK = 1 << 16
_START = re.compile(r"[^\s,]")
_OUTSIDE = re.compile(r'["\[\]{}]')
_INSIDE = re.compile(r'["\\]')
_SCALAR_END = re.compile(r"[,\]\n]")
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")


@dataclass(slots=True)
class Element:
    """text: at most the limit (surrogates U+DC80.. stand for bytes that do not decode); chars: its full length.

    is_cut: the last element of an array that does not end.
    """

    line: int
    offset: int
    size: int
    text: str
    chars: int
    is_cut: bool = False


def looks_like_array(head: str) -> bool:
    """head: the beginning of the file. Whether its first sign is `[` and the next one may begin an element;
    `[INFO] ...` is no array, and neither is a file whose lines are arrays, each by itself."""
    lines = [line for line in head.split("\n") if line.strip()]
    bare = head.lstrip()
    if not bare.startswith("[") or bare[1:].lstrip()[:1] not in ("{", "[", "]", ""):
        return False
    is_line = len(lines) > 1 and lines[1].startswith("[") and isinstance(parse(lines[0], line=1), Parsed)
    return not is_line


def array_records(handle: IO[bytes], source: str, layout: Layout, max_chars: int) -> Iterator[Record]:
    """A record an element."""
    codec = layout.encoding
    if codec.startswith("utf-16"):
        handle.read(len(codecs.BOM_UTF16))
    for number, element in enumerate(elements(handle, codec, max_chars), start=1):
        problem: Rejection | None = None
        if element.chars > max_chars:
            problem = too_long(element.chars, max_chars, element.text)
        elif not codec.startswith("utf-16") and _ESCAPED_BYTE.search(element.text):
            data = element.text.encode(codec, "surrogateescape")
            problem = undecodable(data, _first_bad(data, codec), element.offset, codec)
        text = "" if problem else element.text
        yield Record(
            layout, source, number, element.line, element.offset, element.size, text,
            problem=problem, is_cut=element.is_cut,
        )  # fmt: skip


def _first_bad(data: bytes, codec: str) -> int:
    try:
        data.decode(codec)
    except UnicodeDecodeError as error:
        return error.start
    return 0


def elements(handle: IO[bytes], encoding: str, limit: int) -> Iterator[Element]:
    """The elements of an array. limit: characters of an element that are held.

    Commas between elements are not counted: a missing or doubled one costs no row. An element that never closes
    runs to the end of the file and is yielded as it is.
    """
    scanner = _Scanner(encoding, limit, len(codecs.BOM_UTF16) if encoding.startswith("utf-16") else 0)
    last: Element | None = None
    for element in _scanned(scanner, handle, encoding):
        if last:
            yield last
        last = element
    if last:
        last.is_cut = scanner.is_open
        yield last


def _scanned(scanner: _Scanner, handle: IO[bytes], encoding: str) -> Iterator[Element]:
    decoder = codecs.getincrementaldecoder(encoding)(_errors(encoding))
    while block := handle.read(_CHUNK):
        yield from scanner.feed(decoder.decode(block))
    if decoder.getstate()[0] and not encoding.startswith("utf-16"):  # half a UTF-16 unit has no form in text
        yield from scanner.feed(decoder.decode(b"", final=True))
    yield from scanner.finish()


def _errors(encoding: str) -> str:
    """Bytes that do not decode must survive until their row is known, and so must half surrogate pairs."""
    return "surrogatepass" if encoding.startswith("utf-16") else "surrogateescape"


class _Scanner:
    """Finds where elements start and end. Positions are kept in bytes, of text already passed."""

    def __init__(self, encoding: str, limit: int, offset: int) -> None:
        self._encoding, self._limit = encoding, limit
        self._line, self._offset = 1, offset
        self.is_open = self._in_element = self._in_string = self._escaped = self._scalar = False
        self._depth = 0

    def feed(self, piece: str) -> Iterator[Element]:
        """Yields the elements that end in `piece`."""
        at = 0
        while at < len(piece):
            if not self._in_element:
                at = self._between(piece, at)
                continue
            end = self._end(piece, at)
            self._take(piece[at : len(piece) if end is None else end])
            if end is None:
                return
            at = end
            yield self._close()

    def finish(self) -> Iterator[Element]:
        """The element that the end of the file cuts off."""
        if self._in_element:
            yield self._close()

    def _between(self, piece: str, at: int) -> int:
        match = _START.search(piece, at)
        if not match:
            self._pass(piece[at:])
            return len(piece)
        self._pass(piece[at : match.start()])
        sign = match[0]
        if sign == "\ufeff" or (sign == "[" and not self.is_open) or (sign == "]" and self.is_open):
            self.is_open = sign == "[" or (self.is_open and sign != "]")
            self._pass(sign)
            return match.end()
        self._in_element, self._scalar = True, sign not in "{["
        self._started = (self._line, self._offset)
        self._held, self._chars, self._depth = "", 0, 0
        return match.start()

    def _end(self, piece: str, at: int) -> int | None:
        if self._scalar:
            match = _SCALAR_END.search(piece, at + (0 if self._chars else 1))
            return match.start() if match else None
        if self._escaped:
            self._escaped, at = False, at + 1
        while match := (_INSIDE if self._in_string else _OUTSIDE).search(piece, at):
            at = match.end()
            if match[0] == "\\":
                self._escaped = at >= len(piece)
                at += 1
            elif match[0] == '"':
                self._in_string = not self._in_string
            else:
                self._depth += 1 if match[0] in "{[" else -1
                if self._depth <= 0:
                    return at
        return None

    def _take(self, text: str) -> None:
        if len(self._held) <= self._limit:
            self._held += text[: self._limit + 1]
        self._chars += len(text)
        self._pass(text)

    def _pass(self, text: str) -> None:
        self._line += text.count("\n")
        self._offset += len(text.encode(self._encoding, _errors(self._encoding)))

    def _close(self) -> Element:
        self._in_element = self._in_string = self._escaped = False
        line, offset = self._started
        return Element(line, offset, self._offset - offset, self._held, self._chars)
