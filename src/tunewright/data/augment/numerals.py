"""Numbers as people write them: 37.5, 1,000, １２, 1.2万, 三百二十, 二〇二四, two hundred, half. All to exact values.

Text is expected in NFKC, so that full-width digits are ASCII already. A single 一 or "one" is mostly an article
(一下, 一些, this one) and counts only before a unit of time, money or measure. All other single numerals count: a
false number costs nothing as long as both wordings hold it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

_HAN_DIGIT = {letter: value for value, letter in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_SMALL = {"十": 10, "百": 100, "千": 1000}
_LARGE = {"万": 10**4, "亿": 10**8}
_SCALES = {**_SMALL, **_LARGE, "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "dozen": 12}
_ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
_WORDS = {word: value for value, word in enumerate(f"{_ONES} seventeen eighteen nineteen".split())}
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_WORDS |= {word: 10 * value for value, word in enumerate(_TENS, 2)}
_WORD = "|".join(sorted([*_WORDS, *_SCALES], key=len, reverse=True))
_UNIT_OF_ONE = "年|个月|天|周|星期|小时|分钟|元|块钱|倍|岁|折|成|期|号|楼"
_UNIT_OF_ONE_EN = "(?:year|month|week|day|hour|minute|percent|dollar|euro|pound|yuan)s?"

_PATTERN = re.compile(
    r"(?P<digits>(?:(?<![\w)])[-+−])?(?<![\d.])\d+(?:,\d{3})*(?:\.\d+)?)(?P<scale>[十百千万亿]+|\s?(?:thousand|million|billion)\b)?"
    r"|(?P<half>半(?=个?(?:年|月|天|小时|价))|\bhalf\b)"
    r"|(?P<twice>\btwice\b)"
    r"|(?P<han>[零〇一二两三四五六七八九十][零〇一二两三四五六七八九十百千万亿]*(?:点[零〇一二三四五六七八九]+)?)"
    rf"|\b(?P<words>(?:{_WORD})(?:[\s-]+(?:and\s+)?(?:{_WORD}))*)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Number:
    """A number in a text. start, end: its place; shown: as it is written."""

    start: int
    end: int
    value: Fraction
    shown: str


def numbers(text: str) -> Iterator[Number]:
    """Every number of `text` from left to right."""
    for match in _PATTERN.finditer(text):
        value = _value(match, text[match.end() :])
        if value is not None:
            yield Number(match.start(), match.end(), value, match[0])


def _value(match: re.Match[str], rest: str) -> Fraction | None:
    if match["digits"]:
        value = Fraction(match["digits"].replace(",", "").replace("−", "-").removeprefix("+"))
        scale = (match["scale"] or "").strip().lower()
        for part in [scale] if scale in _SCALES else scale:
            value *= _SCALES[part]
        return value
    if match["half"]:
        return Fraction(1, 2)
    if match["twice"]:
        return Fraction(2)
    return _han(match["han"], rest) if match["han"] else _words(match["words"].lower(), rest)


def _han(run: str, rest: str) -> Fraction | None:
    if run == "一" and not re.match(_UNIT_OF_ONE, rest):
        return None
    if run in ("零", "〇") or (run == "十" and re.match("分(?![之钟])", rest)):
        return None
    return han_value(run)


def han_value(run: str) -> Fraction:
    """三百二十 -> 320, 一万五 -> 15000 (said so), 二〇二四 -> 2024, 三点五 -> 7/2."""
    whole, _, decimals = run.partition("点")
    tail = (
        Fraction(int("".join(str(_HAN_DIGIT[letter]) for letter in decimals)), 10 ** len(decimals)) if decimals else 0
    )
    if all(letter in _HAN_DIGIT for letter in whole):
        return int("".join(str(_HAN_DIGIT[letter]) for letter in whole)) + Fraction(tail)
    total = section = digit = 0
    last = 1
    for letter in whole:
        if letter in _HAN_DIGIT:
            digit = _HAN_DIGIT[letter]
            last = 1 if digit == 0 else last
        elif letter in _SMALL:
            section += (digit or 1) * _SMALL[letter]
            digit, last = 0, _SMALL[letter]
        else:
            carried, total = (total, 0) if letter == "亿" else (0, total)
            total += (carried + section + digit or 1) * _LARGE[letter]
            section, digit, last = 0, 0, _LARGE[letter]
    return Fraction(total + section + digit * (last // 10 if last > 10 else 1)) + tail


def _words(run: str, rest: str) -> Fraction | None:
    parts = [part for part in re.split(r"[\s-]+", run) if part != "and"]
    if parts == ["one"] and not re.match(rf"[\s-]+{_UNIT_OF_ONE_EN}\b", rest, re.IGNORECASE):
        return None
    total = section = 0
    for part in parts:
        if part in _WORDS:
            section += _WORDS[part]
        elif _SCALES[part] <= 100:
            section = (section or 1) * _SCALES[part]
        else:
            total, section = total + (section or 1) * _SCALES[part], 0
    return Fraction(total + section)
