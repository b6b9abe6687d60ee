"""English number words: seventy-three, one hundred and five, two thirds, three and a half."""

from __future__ import annotations

import re
from fractions import Fraction

_SMALL = {
    word: value
    for value, word in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
        ]
    )
}
_TENS = {
    word: 10 * value
    for value, word in enumerate(
        ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], start=2
    )
}
SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_PARTS = {
    word: value
    for value, words in (
        (2, "half halves"), (3, "third thirds"), (4, "quarter quarters fourth fourths"), (5, "fifth fifths"),
        (6, "sixth sixths"), (7, "seventh sevenths"), (8, "eighth eighths"), (9, "ninth ninths"), (10, "tenth tenths"),
    )
    for word in words.split()
}  # fmt: skip
_NUMBER = "|".join(sorted([*_SMALL, *_TENS, *SCALES], key=len, reverse=True))
_START = "|".join(sorted([*_SMALL, *_TENS], key=len, reverse=True))
_PART = "|".join(sorted(_PARTS, key=len, reverse=True))
STARTS = rf"(?:(?:{_START})\b|an?(?=[ -](?:hundred|thousand|million|half|third|quarter)\b))"
"""How a run of number words begins, as part of a regular expression."""
WORDS = (
    rf"\b{STARTS}"
    rf"(?:(?:[ -]|,? and )(?:(?:{_NUMBER}|{_PART})|an?(?=[ -](?:{_PART})\b))\b)*\b"
)
"""A run of number words, as part of a regular expression; letters of any case."""


def words(text: str) -> Fraction | None:
    """The value of a whole run, None where it is no number ('one two', 'one and three')."""
    said = [word for word in re.split(r"[ ,-]+", text.lower()) if word]
    if said[-1] in _PARTS:
        return _with_part(said)
    value = _integer([1 if word in ("a", "an") else word for word in said])
    return None if value is None else Fraction(value)


def _with_part(said: list[str]) -> Fraction | None:
    """two thirds; three and a half."""
    *rest, part = said
    above: list[str | int]
    whole: list[str | int]
    if "and" in rest:
        cut = len(rest) - 1 - rest[::-1].index("and")
        whole, above = list(rest[:cut]), list(rest[cut + 1 :])
    else:
        whole, above = [], list(rest)
    if above in ([], ["a"], ["an"]):
        above = [1]
    count, before = _integer(above), _integer(whole) if whole else 0
    return None if count is None or before is None else before + Fraction(count, _PARTS[part])


def _integer(said: list[str | int]) -> int | None:
    """total: closed groups (thousand, million); group: below a thousand; room: what the next word must be under."""
    total, group, room, above = 0, 0, 1000, 10**15
    for word in said:
        if word == "and":
            continue
        value = word if isinstance(word, int) else _SMALL.get(word, _TENS.get(word))
        if value is not None:
            if value >= room:
                return None
            group, room = group + value, 10 if value >= 20 and value % 10 == 0 else 0
        elif word == "hundred" and 0 < group < 100:
            group, room = group * 100, 100
        elif isinstance(word, str) and SCALES.get(word, above) < above and group:
            above = SCALES[word]
            total, group, room = total + group * above, 0, 1000
        else:
            return None
    return total + group if said else None
