"""Chinese numerals: 七十三, 两百零五, 二十三点五, 三亿五千万, 二〇二五, 壹佰."""

from __future__ import annotations

import re
from fractions import Fraction

DIGITS = {letter: value for value, letters in enumerate(("零〇", "一壹", "二贰两兩", "三叁", "四肆", "五伍", "六陆",
          "七柒", "八捌", "九玖")) for letter in letters}  # fmt: skip
SMALL = {"十": 10, "拾": 10, "百": 100, "佰": 100, "千": 1000, "仟": 1000}
LARGE = {"万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
SCALES: dict[str, int] = {**SMALL, **LARGE}
LETTERS = "".join([*DIGITS, *SCALES, "廿"])
NUMERAL = f"[{LETTERS}]+(?:点[{''.join(DIGITS)}]+[万萬亿億]*)?"
"""A run that may be a numeral, as part of a regular expression; `numeral` says whether it is one."""
_ZERO = "零〇"


def numeral(text: str) -> Fraction | None:
    """The value of a whole text, None where it is no numeral ('千万', '三四', '万一').

    三百五 is 350 and 两万五 is 25000, as they are said.
    """
    text = text.replace("廿", "二十")
    whole, point, decimals = text.partition("点")
    scale = 1
    while decimals and decimals[-1] in LARGE:
        scale *= LARGE[decimals[-1]]
        decimals = decimals[:-1]
    value = _digits(whole) if all(letter in DIGITS for letter in whole) else _whole(whole)
    if value is None or (point and not decimals):
        return None
    places = "".join(str(DIGITS[letter]) for letter in decimals)
    return scale * (Fraction(value) + (Fraction(int(places), 10 ** len(places)) if places else 0))


def _digits(text: str) -> int | None:
    """Digit by digit; two of them without a zero (三四个) are a guess between two numbers, not a number."""
    if not text or (len(text) == 2 and not any(letter in _ZERO for letter in text)):
        return None
    return int("".join(str(DIGITS[letter]) for letter in text))


def _whole(text: str) -> int | None:
    """Numerals with units, split at the largest: 三亿五千万 is 三 x 亿 + 五千万."""
    for unit, size in (("[亿億]", 10**8), ("[万萬]", 10**4)):
        found = list(re.finditer(unit, text))
        if found:
            last = found[-1]
            left, right = _whole(text[: last.start()]), text[last.end() :]
            rest = _rest(right, size)
            return None if not left or rest is None or rest >= size else left * size + rest
    return _below_ten_thousand(text)


def _rest(text: str, unit: int) -> int | None:
    """What follows a unit: nothing, 零五, 三千, or one digit of the next smaller place (两万五)."""
    if not text:
        return 0
    if len(text) == 1 and text in DIGITS:
        return DIGITS[text] * unit // 10 if text not in _ZERO else None
    return _whole(text.lstrip(_ZERO)) if text.lstrip(_ZERO) else None


def _below_ten_thousand(text: str) -> int | None:
    total, unit, position, had_zero = 0, 10**4, 0, False
    while position < len(text):
        letter = text[position]
        if letter in _ZERO:
            had_zero, position = True, position + 1
            continue
        digit = DIGITS.get(letter, 1 if SMALL.get(letter) == 10 else None)
        if digit is None:
            return None  # 百 or 千 without a digit before it
        place = position + (letter in DIGITS)
        size = SMALL.get(text[place]) if place < len(text) else None
        if size is None:  # the last digit: 三百零五, 三百五, 三十五, 五
            if place != len(text):
                return None
            is_said_short = unit in (100, 1000) and not had_zero and total
            return total + digit * (unit // 10 if is_said_short else 1)
        if size >= unit:
            return None
        total, unit, position, had_zero = total + digit * size, size, place + 1, False
    return None if had_zero and total else total
