"""Han characters, and the tokens that ROUGE counts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

HAN = r"\u2e80-\u2fdf\u3005\u3007\u3021-\u3029\u3038-\u303b\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Characters of the Unicode script Han, as the inside of a regular expression's class."""
_HAN = re.compile(f"[{HAN}]")
_TOKEN = re.compile(rf"[a-z0-9]+|[{HAN}]|(?:(?![a-z{HAN}])[^\W\d_])+|\S")


def tokens(text: str) -> list[str]:
    """Lower-cased [a-z0-9]+, single Han characters, runs of other letters, single symbols; spaces separate."""
    return _TOKEN.findall(text.lower())


def han_share(texts: Iterable[str]) -> float:
    """Share of Han characters among all characters of `texts`; 0 for no text."""
    han = total = 0
    for text in texts:
        han += len(_HAN.findall(text))
        total += len(text)
    return han / total if total else 0.0


def comparable(text: str) -> str:
    """The form in which whole answers are compared: NFKC, case-folded, single spaces, without quotes, brackets and
    punctuation around; signs that change a value (- % and currency) stay, and so does a text of nothing but signs."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    start, end = 0, len(folded)
    while start < end and _is_wrapping(folded[start], folded[start + 1 : start + 2]):
        start += 1
    while end > start and _is_wrapping(folded[end - 1], ""):
        end -= 1
    return folded[start:end] or folded


def _is_wrapping(letter: str, following: str) -> bool:
    if letter in "-.+" and following.isdigit():
        return False
    return letter.isspace() or letter in "`*_~^" or (letter not in "%‰#@&" and unicodedata.category(letter)[0] == "P")
