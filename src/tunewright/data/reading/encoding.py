"""Which encoding a file has: UTF-8 unless its bytes say otherwise. Nothing is guessed from the locale."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Literal

from tunewright.core.errors import ArtifactError
from tunewright.data.reading.lines import Lines

Opener = Callable[[], IO[bytes]]
"""Opens the file's bytes from the start; they are unpacked where it is an archive."""

Encoding = Literal["utf-8", "utf-16-le", "utf-16-be", "gb18030"]
_CHUNK = 1 << 20
_COMMON_SHARE = 0.7
_ENOUGH_CHARS = 100_000
_MANY_ZEROS = 0.2
"""Share of bytes that are zero, all of them second or all of them first ones, in UTF-16 that is mostly Latin."""


@dataclass(frozen=True, slots=True)
class _Evidence:
    """Lines that hold more than ASCII: valid UTF-8, and not. common: share of everyday Chinese in the latter."""

    utf8_lines: int
    other_lines: int
    common: float
    is_gb18030: bool


def detect(opener: Opener, *, line_limit: int, wanted: str = "auto", where: str = "") -> Encoding:
    """The encoding of a file; `wanted` other than auto wins. line_limit: bytes of a line that are looked at.

    Not UTF-8: UTF-16 by its byte order mark, GB18030 when every byte is valid in it and what comes out is everyday
    Chinese. A file of UTF-8 lines with some bad ones stays UTF-8: those rows are quarantined by the reader.
    """
    with opener() as handle:
        head = handle.read(1 << 12)
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise ArtifactError("the file is UTF-32, which is not read", where=where, fix="save it as UTF-8")
    if head.startswith(codecs.BOM_UTF16_LE):
        return "utf-16-le"
    if head.startswith(codecs.BOM_UTF16_BE):
        return "utf-16-be"
    if wanted == "utf-16":
        raise ArtifactError("the file has no UTF-16 byte order mark", where=where, fix="check data.encoding")
    zeros = sorted((head[::2].count(0), head[1::2].count(0)))
    if not zeros[0] and zeros[1] > _MANY_ZEROS * len(head):
        problem = f"every other of the first {len(head)} bytes is zero, as in UTF-16 without a byte order mark"
        raise ArtifactError(problem, where=where, fix="save it as UTF-8")
    if wanted == "gb18030":
        return "gb18030"
    if wanted == "utf-8" or _is_utf8(opener):
        return "utf-8"
    found = _weigh(opener, line_limit)
    is_chinese = found.is_gb18030 and found.common >= _COMMON_SHARE and found.other_lines > found.utf8_lines
    return "gb18030" if is_chinese else "utf-8"


def _is_utf8(opener: Opener) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")("strict")
    try:
        with opener() as handle:
            while block := handle.read(_CHUNK):
                decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _weigh(opener: Opener, line_limit: int) -> _Evidence:
    utf8_lines = other_lines = common = seen = 0
    with opener() as handle:
        for line in Lines(handle, "utf-8", line_limit):
            if line.data.isascii():
                continue
            if _decodes(line.data, "utf-8"):
                utf8_lines += 1
                continue
            other_lines += 1
            try:
                text = line.data.decode("gb18030")
            except UnicodeDecodeError as error:
                if line.too_long and error.start > len(line.data) - 4:  # the cut end of what is held
                    continue
                return _Evidence(utf8_lines, other_lines, 0.0, is_gb18030=False)
            if seen < _ENOUGH_CHARS:
                letters = [letter for letter in text if letter > "\x7f"]
                seen += len(letters)
                common += sum(map(_is_everyday_chinese, letters))
    return _Evidence(utf8_lines, other_lines, common / max(seen, 1), is_gb18030=True)


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _is_everyday_chinese(letter: str) -> bool:
    """GB 2312 punctuation (rows 1-3) and its first level of characters (rows 16-55), 99 % of modern text."""
    try:
        lead = letter.encode("gb2312")[0]
    except UnicodeEncodeError:
        return False
    return 0xA1 <= lead <= 0xA3 or 0xB0 <= lead <= 0xD7
