"""JSONL, also where some or all of its objects go over several lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

from tunewright.data.findings import Rejection, excerpt
from tunewright.data.reading.layout import Layout, line_limit
from tunewright.data.reading.lines import ByteLine, Lines
from tunewright.data.reading.record import Record, decode_line, too_long
from tunewright.data.reading.strict_json import Parsed, parse

_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"')
_MOST_LINES = 20_000
_DEEPEST = 100
_ENDS = (b"}\n", b"}\r\n")
"""Of lines that are a record by themselves, whatever stands in them."""


def json_records(handle: IO[bytes], source: str, layout: Layout, max_chars: int) -> Iterator[Record]:
    """A record a line, or a record for several lines that are one JSON object and no JSON by themselves."""
    reader = _Reader(handle, source, layout, max_chars)
    lines, is_utf8, number = reader.lines, layout.encoding == "utf-8", 0
    while True:
        for place, offset, data in lines.plain(max_chars, _ENDS) if is_utf8 else ():
            number += 1
            yield Record(layout, source, number, place, offset, len(data), data[:-1])
        line = lines.next()
        if line is None:
            return
        if is_utf8 and line.size <= max_chars and line.data.endswith((b"}", b"}\r")):
            number += 1
            yield Record(layout, source, number, line.number, line.offset, line.size, line.data)
        elif record := reader.read(line, number + 1):
            number += 1
            yield record


class _Reader:
    """Lines that may be blank, too long, undecodable, or the beginning of an object over several lines."""

    def __init__(self, handle: IO[bytes], source: str, layout: Layout, max_chars: int) -> None:
        self.lines = Lines(handle, layout.encoding, line_limit(max_chars))
        self._source, self._layout, self._max_chars = source, layout, max_chars

    def read(self, line: ByteLine, number: int) -> Record | None:
        """The record that starts with `line`; None for a blank line."""
        text = self._text(line)
        if isinstance(text, Rejection):
            return self._record(line, number, "", problem=text)
        bare = text.strip("\ufeff").strip()
        if not bare:
            return None
        chars = line.too_long or len(text)
        if chars > self._max_chars:
            return self._record(line, number, "", problem=too_long(chars, self._max_chars, text))
        starts = text.lstrip("\ufeff").startswith("{")  # without indentation: an object inside another has some
        depth = _depth(bare) if starts and not bare.endswith("}") else 0
        if depth:
            return self._several(line, number, text, depth)
        return self._record(line, number, text)

    def _text(self, line: ByteLine) -> str | Rejection:
        return decode_line(line.data, self._layout.encoding, offset=line.offset, is_whole=not line.too_long)

    def _record(
        self, line: ByteLine, number: int, payload: str, *, lines: int = 1, problem: Rejection | None = None
    ) -> Record:
        return Record(self._layout, self._source, number, line.number, line.offset, line.size, payload, lines, problem)

    def _several(self, first: ByteLine, number: int, text: str, depth: int) -> Record:
        taken: list[ByteLine] = []
        whole = self._object(text, depth, taken)
        if whole is not None:
            size = first.size + sum(line.size for line in taken)
            start = ByteLine(first.number, first.offset, size, b"")
            return self._record(start, number, whole, lines=1 + len(taken))
        self.lines.put_back(taken)
        return (
            self._broken(first, number, text) if self._layout.shape == "objects" else self._record(first, number, text)
        )

    def _object(self, text: str, depth: int, taken: list[ByteLine]) -> str | None:
        """The text of the object that starts with `text`; None where the lines that follow do not complete it.

        A line feed inside a string is no JSON, so a row that is cut inside a string is never continued.
        """
        parts, chars, end = [text], len(text), text.rstrip()[-1]
        while depth and len(taken) < _MOST_LINES and (line := self.lines.next()):
            taken.append(line)
            part = self._text(line)
            if isinstance(part, Rejection) or line.too_long:
                return None
            parts.append(part)
            chars += len(part) + 1
            bare = part.strip()
            step = _depth(bare)
            if step is None or chars > self._max_chars or depth + step < 0 or depth + step > _DEEPEST:
                return None
            if bare and end not in ",[{:" and bare[0] not in ",]}:":  # two values without a comma between them
                return None
            depth, end = depth + step, bare[-1:] or end
        whole = "\n".join(parts)
        return whole if not depth and isinstance(parse(whole, line=1), Parsed) else None

    def _broken(self, first: ByteLine, number: int, text: str) -> Record:
        """An object that does not end, among objects over several lines: up to where the next one starts."""
        parts, size, chars, count = [text], first.size, len(text), 1
        while line := self.lines.next():
            part = line.data.decode(self._layout.encoding, "replace")
            if part.lstrip("\ufeff").startswith("{"):
                self.lines.put_back([line])
                break
            if chars <= self._max_chars:
                parts.append(part)
            size, chars, count = size + line.size, chars + 1 + (line.too_long or len(part)), count + 1
            if part.rstrip() in ("}", "},"):
                break
        whole = "\n".join(parts)
        problem = too_long(chars, self._max_chars, text) if chars > self._max_chars else self._bad_text(whole)
        start = ByteLine(first.number, first.offset, size, b"")
        return self._record(start, number, "" if problem else whole, lines=count, problem=problem)

    def _bad_text(self, whole: str) -> Rejection | None:
        if "\ufffd" not in whole or self._layout.encoding.startswith("utf-16"):
            return None
        reason = f"the object does not end and holds bytes that are not valid {self._layout.encoding.upper()}"
        return Rejection("BAD_UTF8", reason, excerpt(whole, whole.index("\ufffd")))


def _depth(line: str) -> int | None:
    """By how many brackets the line opens more than it closes; None where a string is open at its end."""
    bones = _STRING.sub("", line)
    if '"' in bones:
        return None
    return bones.count("{") + bones.count("[") - bones.count("}") - bones.count("]")
