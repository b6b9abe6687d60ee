"""Numbers as they stand in a sentence: their sign, what they count, and which of them are no quantities at all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache

from tunewright.core.text.answers.chinese import DIGITS
from tunewright.core.text.answers.numbers import Number, scan

CURRENCY = r"(?:US\$|HK\$|NT\$|[ACR]\$|RMB|CNY|USD|EUR|GBP|JPY|HKD|Rs\.?|人民币|[$¥€£₹₩])"
_NAME_SIGNS = ("^", "_", "√", "±", "²")
_PRODUCT = re.compile(r"\d\s?[xX]$")
_BEFORE_IS_CURRENCY = re.compile(rf"{CURRENCY}\s?$")
_MINUS_WORD = re.compile(r"(?:\b(?:minus|negative)\s|负|零下)\s?$", re.IGNORECASE)
_PART_OF_TEXT = re.compile(
    r"(?:\b(?:step|question|problem|example|figure|fig\.|table|part|option|case|method|version)\s*|步骤|问题|例题?|[图表]"
    r"|式\(?|方法|方案|选项|题目?|版本)\s*[(#]?$",
    re.IGNORECASE,
)
_PART_OF_TEXT_END = re.compile(r"\s?(?:[题步章节]|小[题问]|部分|种方法)")
_LABEL = re.compile(r"(?:\b(?:day|week|chapter|no\.|round|grade|line|item)\s*|第|编号)\s*[(#]?$", re.IGNORECASE)
_ORDINAL_END = re.compile(r"(?:st|nd|rd|th)\b", re.IGNORECASE)
_MARKER = re.compile(r"(?m)^[ \t>*-]*(?:\((\d{1,2})\)|(\d{1,2})(?:[.)](?=\s|[^\x00-\x7f])|、(?!\d)))[ \t]*(?=\S)")
_ABOUT = re.compile(r"(?:多(?!\d)|余(?!\d)|几)")
_ONE_IS_NO_COUNT = "共起样些下定直般旦切边面方致律向时旁路并来会点刻生再味并半"
_BEFORE_ONE = "统唯同单每任逐某那这另进万第惟其"
_OTHER_IDIOM = re.compile(
    r"四舍五入|零(?=下|\d)|十分(?![之钟一二三四五六七八九])|[再]三|四[周面处]|两[者边侧端]|七[上夕]|三角|五官|六合|百般"
)
_WORD_IS_NO_COUNT = re.compile(
    r"\s(?:of|another|more|can|by|way|thing|must|would|should|could|is|who)\b", re.IGNORECASE
)

_LADDERS: tuple[dict[str, Fraction], ...] = (
    {"元": Fraction(1), "块钱": Fraction(1), "块": Fraction(1), "角": Fraction(1, 10), "毛": Fraction(1, 10),
     "分钱": Fraction(1, 100), "分": Fraction(1, 100)},
    {"dollars": Fraction(1), "dollar": Fraction(1), "cents": Fraction(1, 100), "cent": Fraction(1, 100)},
    {"天": Fraction(1440), "个小时": Fraction(60), "小时": Fraction(60), "时": Fraction(60), "分钟": Fraction(1),
     "分": Fraction(1), "秒钟": Fraction(1, 60), "秒": Fraction(1, 60)},
    {"days": Fraction(1440), "day": Fraction(1440), "hours": Fraction(60), "hour": Fraction(60), "hrs": Fraction(60),
     "hr": Fraction(60), "h": Fraction(60), "minutes": Fraction(1), "minute": Fraction(1), "mins": Fraction(1),
     "min": Fraction(1), "seconds": Fraction(1, 60), "second": Fraction(1, 60)},
    {"千米": Fraction(1000), "公里": Fraction(1000), "米": Fraction(1), "分米": Fraction(1, 10),
     "厘米": Fraction(1, 100), "毫米": Fraction(1, 1000)},
    {"km": Fraction(1000), "m": Fraction(1), "dm": Fraction(1, 10), "cm": Fraction(1, 100), "mm": Fraction(1, 1000)},
    {"feet": Fraction(12), "foot": Fraction(12), "ft": Fraction(12), "inches": Fraction(1), "inch": Fraction(1),
     "in": Fraction(1)},
    {"吨": Fraction(1000), "千克": Fraction(1), "公斤": Fraction(1), "克": Fraction(1, 1000)},
    {"kg": Fraction(1), "g": Fraction(1, 1000)},
    {"年": Fraction(12), "个月": Fraction(1)},
    {"years": Fraction(12), "year": Fraction(12), "months": Fraction(1), "month": Fraction(1)},
    {"升": Fraction(1), "毫升": Fraction(1, 1000)},
)  # fmt: skip
_UNIT = re.compile(
    r"\s?("
    + "|".join(sorted({unit for ladder in _LADDERS for unit in ladder}, key=len, reverse=True))
    + r")(?![A-Za-z])"
)
_JOINED = re.compile(r"(?:\s?(?:and|又|零|,)?\s?)$")


@lru_cache(maxsize=16)
def quantities(text: str) -> tuple[Number, ...]:
    """The numbers of a plain text that can be quantities, signed, 5元5角 as one; ordinals and labels have rank 2."""
    markers = _markers(text)
    found = []
    for number in scan(text):
        if not _is_part_of_a_name(number, text) and not _is_idiom(number, text):
            is_label = number.start in markers or _is_label(number, text)
            found.append(_signed(replace(number, rank=2) if is_label else number, text))
    return tuple(_compounds(found, text))


def _markers(text: str) -> set[int]:
    """Places of list numbers: `1. ... 2. ...` at the start of lines, counted from 1."""
    places, next_one = set(), 1
    for marker in _MARKER.finditer(text):
        group = 1 if marker[1] else 2
        if int(marker[group]) == next_one:
            places.add(marker.start(group))
            next_one += 1
    return places


def _is_part_of_a_name(number: Number, text: str) -> bool:
    """m2, x_1, 10^6, 1.2.3, A4, 2024/5/1, ±3, √2."""
    if number.kind in ("digits", "han") and _names_a_part(number, text):
        return True
    before, after = text[max(0, number.start - 2) : number.start], text[number.end : number.end + 2]
    last = before[-1:]
    if last in _NAME_SIGNS or (last == "{" and before[:1] in ("^", "_", "√")):
        return bool(last)
    if (
        last.isascii()
        and last.isalpha()
        and number.kind != "word"
        and not _BEFORE_IS_CURRENCY.search(text, max(0, number.start - 6), number.start)
    ):
        return _PRODUCT.search(text, max(0, number.start - 4), number.start) is None
    if last in ("/", ".") and before[:1].isdigit():
        return True
    return after[:1] in ("√", "^", "±") or after == "**" or (after[:1] in (".", "/") and after[1:].isdigit())


def _names_a_part(number: Number, text: str) -> bool:
    """Step 1, 第3题: a part of the text, never an answer."""
    if _PART_OF_TEXT.search(text, max(0, number.start - 14), number.start):
        return True
    return text[number.start - 1 : number.start] == "第" and bool(_PART_OF_TEXT_END.match(text, number.end))


def _is_idiom(number: Number, text: str) -> bool:
    """一共, 统一, 四舍五入, 20多个, one of them."""
    if number.kind == "word":
        return " " not in text[number.start : number.end] and bool(_WORD_IS_NO_COUNT.match(text, number.end))
    if _ABOUT.match(text, number.end):
        return True
    if number.kind != "han":
        return False
    before, after = text[number.start - 1 : number.start], text[number.end : number.end + 1]
    if text[number.start : number.end] == "一" and (after in tuple(_ONE_IS_NO_COUNT) or before in tuple(_BEFORE_ONE)):
        return before != "第"
    near = max(0, number.start - 3)
    return any(
        idiom.start() <= number.start < idiom.end() for idiom in _OTHER_IDIOM.finditer(text, near, number.end + 3)
    )


def _signed(number: Number, text: str) -> Number:
    start = number.start
    if currency := _BEFORE_IS_CURRENCY.search(text, max(0, start - 6), start):
        start = currency.start()
    if word := _MINUS_WORD.search(text, max(0, start - 10), start):
        return replace(number, value=-number.value, start=word.start())
    place = start - 2 if text[max(0, start - 2) : start] == "- " else start - 1
    if place >= 0 and text[place] == "-" and _is_sign(text, place, spaced=place != start - 1):
        return replace(number, value=-number.value, start=place)
    return number


def _is_sign(text: str, place: int, *, spaced: bool) -> bool:
    """Whether the dash at `place` is a minus sign: not the one of 10-3, of a list's bullet or of COVID-19."""
    line = text[max(0, place - 40) : place].rpartition("\n")[2]
    left = line.rstrip(" ")
    if not left:
        return not spaced
    if spaced and left[-1] not in "=:(≈<>×÷*/是为于":
        return False
    if left[-1].isdigit() or left[-1] in ")%]}" or left[-1] in DIGITS or left[-1] == "-":
        return False
    return not (line[-1:].isalpha() and line[-1:].isascii())


def _is_label(number: Number, text: str) -> bool:
    """Step 1, 第3天, 2nd."""
    if number.kind in ("ratio", "time", "fraction"):
        return False
    return bool(_LABEL.search(text, max(0, number.start - 14), number.start) or _ORDINAL_END.match(text, number.end))


def _compounds(numbers: Sequence[Number], text: str) -> list[Number]:
    """Neighbours in falling units of one ladder as one number in the first unit; the last unit's value in `also`."""
    joined: list[Number] = []
    unit_of_last: tuple[dict[str, Fraction], Fraction, int] | None = None
    for number in numbers:
        unit = _UNIT.match(text, number.end)
        if joined and unit and unit_of_last and _JOINED.fullmatch(text, unit_of_last[2], number.start):
            ladder, size, _ = unit_of_last
            if unit[1] in ladder and ladder[unit[1]] < size and number.value >= 0:
                joined[-1] = _sum(joined[-1], number, ladder[unit[1]] / size, unit.end())
                unit_of_last = ladder, size, unit.end()
                continue
        joined.append(number)
        ladders = [ladder for ladder in _LADDERS if unit and unit[1] in ladder]
        unit_of_last = (ladders[0], ladders[0][unit[1]], unit.end()) if unit and ladders else None
    return joined


def _sum(first: Number, second: Number, size: Fraction, end: int) -> Number:
    """size: of the second's unit, in the first's."""
    value = first.value + second.value * size
    return replace(first, value=value, end=end, also=(value / size,))
