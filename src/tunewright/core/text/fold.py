"""A text as matching sees it: full-width and other decimal digits as ASCII, one kind of blank and hyphen, nothing
invisible. The text itself stays as it is; `Folded.place` leads back to it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from tunewright.core.text.spans import Span

_BLANKS = "\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_HYPHENS = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d"
_SIGNS = "\uff05\uff0b\uff0e\uff1d\uff20\uff3f"
"""Full-width % + . = @ _: the punctuation of Chinese prose stays out of it."""


_LAST_SCRIPT = 0x20000
"""Scripts with digits stand below; the planes above hold Han characters and none (Unicode 16, table 2-1)."""


def _table() -> dict[int, str]:
    """Every decimal digit of any script (Unicode category Nd), full-width letters and the signs above."""
    digits = {code: str(unicodedata.decimal(chr(code))) for code in range(0x660, _LAST_SCRIPT) if chr(code).isdecimal()}
    letters = [*range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B), *map(ord, _SIGNS)]
    wide = {code: chr(code - 0xFEE0) for code in letters}
    return digits | wide | dict.fromkeys(map(ord, _BLANKS), " ") | dict.fromkeys(map(ord, _HYPHENS), "-")


_TABLE = _table()
_FOLDABLE = re.compile(f"[^\\D0-9]|[\uff21-\uff3a\uff41-\uff5a{_SIGNS}{_BLANKS}{_HYPHENS}]")
_INVISIBLE = re.compile("[\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_JSON_START = ("{", "[", '"')
_JSON_ESCAPE = re.compile(r'\\(?:u[0-9A-Fa-f]{4}|[bfnrt"\\/])')


@dataclass(frozen=True, slots=True)
class Folded:
    """text: folded; origin: the place of each of its characters in the original, None where they are the same."""

    text: str
    origin: Sequence[int] | None = None

    def place(self, kind: str, start: int, end: int) -> Span:
        """A span of the folded text as a span of the original."""
        if self.origin is None:
            return Span(kind, start, end)
        return Span(kind, self.origin[start], self.origin[end - 1] + 1)


def fold(text: str) -> Folded:
    """Folds one character to one. Invisible characters are left out, so that they hide no number; escapes of a JSON
    text (tool results) become NUL, so that the `5` of an escaped letter is no digit of the number behind it."""
    origin: list[int] | None = None
    if not text.isascii():
        if _INVISIBLE.search(text):
            origin = [index for index, letter in enumerate(text) if not _INVISIBLE.match(letter)]
            text = _INVISIBLE.sub("", text)
        if _FOLDABLE.search(text):
            text = text.translate(_TABLE)
    if "\\" in text and text.lstrip().startswith(_JSON_START):
        text = _JSON_ESCAPE.sub(lambda match: "\0" * len(match[0]), text)
    return Folded(text, origin)
