"""Equations as they are written in a solution: 9 eggs * $2 = $18, 316-129=187（页）, 17÷5=3……2. Do they hold?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

from tunewright.core.text.answers.arithmetic import Token, value_of
from tunewright.core.text.answers.context import CURRENCY
from tunewright.core.text.answers.numbers import DECIMAL, MOST_DIGITS, decimal
from tunewright.core.text.answers.plain import plain

CALCULATOR = re.compile(r"<<([^<>\n=]+)=([^<>\n]+)>>")
"""gsm8k's notes: <<16-3-4=9>>."""
MOST_TOKENS = 80
_WORD = r"(?:[A-Za-z]+\.?|[\u4e00-\u9fff]{1,5}|°C?)[²³]?"
_TOKEN = re.compile(
    rf"\s*(?:(?P<mixed>\d+(?: and | & | )\d+/\d+(?![\d/]))|(?P<number>(?:{CURRENCY}\s?)?{DECIMAL})|(?P<equals>=+|≈|≒)"
    r"|(?P<operator>\*\*|[-+*/×÷^()\[\]]|[xX](?=\s?[\d($¥€£]))|(?P<percent>%)|(?P<raised>[²³]))"
)
_UNIT = re.compile(
    rf"\s?(?:/\s?{_WORD}|{_WORD}(?:\s{_WORD}){{0,2}}(?:\s?/\s?{_WORD})?)(?=\s*(?:[-+*/×÷=≈)\]^]|[xX]\s?\d|\((?!\d)|$|[,.;。、\n]))"
)
_NOTE = re.compile(r"\s?\((?:\d+ )?(?:/?[A-Za-z°]+[A-Za-z/ ²³]*|[\u4e00-\u9fff/²³]+)\)")
"""（页）, (apples)"""
_TIMES = re.compile(r"\s+of\s+(?=[\d$])|\s?的\s?(?=\d)")
_SIGN = re.compile(r"(?:^|[\s,;:，。(=\u4e00-\u9fff])-$")
_OPENING = re.compile(r"[\d(\[$¥€£.]")
_REMAINDER = re.compile(r"\s*(?:…+|\.{3,6}|余|\s?remainder\s|\s?[rR]\s?)\s*(\d+)")
_VARIABLE = re.compile(r"\s?[a-zA-Z](?![a-zA-Z])")
_SHORT_UNITS = frozenset("mgshLltC")
_BEFORE = re.compile(
    r"(?:\d:|[-+*/×÷^=≈(\[]|\b(?:of|times|half|twice|double|thrice|per|plus|minus|by)|[倍加减乘除]|(?<![A-Za-z])[a-zA-Z])\s*$"
)
_SAYS = re.compile(r"[加减乘除等]|\b(?:plus|minus|times|divided|equals)\b")
_SAID = tuple(
    (re.compile(rf"(?<=[\d%)])\s?(?:{words})\s?(?=[\d($¥])"), sign)
    for words, sign in (
        (r"加上?|\bplus\b", "+"),
        (r"减去?|\bminus\b", "-"),
        (r"乘以?|\btimes\b", "×"),
        (r"除以|\bdivided by\b", "÷"),
        ("约等于", "≈"),
        (r"等于|\bequals\b", "="),
    )
)


@dataclass(frozen=True, slots=True)
class Equation:
    """text: as written, in plain spelling; result: of the right side; holds: within the rounding it is written with."""

    text: str
    result: Fraction
    holds: bool


@dataclass(slots=True)
class _Side:
    """One side of an equation while it is read."""

    tokens: list[Token] = field(default_factory=list)
    start: int = 0
    end: int = 0
    percent: bool = False
    places: int = 0
    remainder: int | None = None
    units: set[str] = field(default_factory=set)
    sign: str = "="
    """How the side is joined to the one before."""

    value: Fraction | None = None

    @property
    def is_single(self) -> bool:
        return sum(isinstance(token, Fraction) for token in self.tokens) == 1


def equations(text: str) -> list[Equation]:
    """Every equation with an operation in it, in order; those with unknowns (2x = 14) are none."""
    body = plain(text)
    if _SAYS.search(body):
        for words, sign in _SAID:
            body = words.sub(sign, body)
    return [equation for line in body.split("\n") if "=" in line or "≈" in line for equation in _of_line(line)]


def calculator_results(text: str) -> list[Fraction]:
    """The results of gsm8k's notes, in order."""
    found = []
    for note in CALCULATOR.finditer(text):
        said = note[2].strip().lstrip("$").replace(",", "")
        if re.fullmatch(r"-?\d{1,30}(?:\.\d{0,30})?|-?\.\d{1,30}|-?\d{1,30}/0*[1-9]\d{0,29}", said):
            found.append(Fraction(said.rstrip(".")))
    return found


def _of_line(line: str) -> Iterator[Equation]:
    position = 0
    while start := _OPENING.search(line, position):
        first = start.start() - (_SIGN.search(line, max(0, start.start() - 2), start.start()) is not None)
        sides, end = _sides(line, first)
        position = max(end, start.end())
        if len(sides) > 1 and not _BEFORE.search(line, max(0, first - 12), first):
            yield from _judged(sides, line)


def _sides(line: str, position: int) -> tuple[list[_Side], int]:
    """The sides of the equation that starts at `position`, and where reading ended. No sides where it has an unknown
    or is broken off by other words."""
    sides, count = [_Side(start=position)], 0
    while count < MOST_TOKENS and (found := _TOKEN.match(line, position)):
        count += 1
        side = sides[-1]
        if found["equals"]:
            if not side.tokens:
                break
            side.end = position
            sides.append(_Side(start=found.end(), sign=found["equals"]))
            position = found.end()
            continue
        if (found["number"] or found["mixed"]) and side.tokens and isinstance(side.tokens[-1], Fraction):
            break
        if not _take(side, found):
            return [], found.end()
        position = side.end = found.end()
        if found["number"] or found["mixed"] or found["percent"] or found[0].strip() in (")", "]"):
            position = _after_operand(side, line, position)
            if position < 0:
                return [], found.end()
    return _whole_ones(sides) if len(sides) > 1 else [], max(position, sides[0].start + 1)


def _whole_ones(sides: list[_Side]) -> list[_Side]:
    """The sides up to the first that is broken off."""
    found = []
    for side in sides:
        side.value = value_of(side.tokens)
        if side.value is None:
            break
        found.append(side)
    return found


def _take(side: _Side, found: re.Match[str]) -> bool:
    """Adds a token to a side; False for what no calculation has."""
    text = found[0].strip()
    if found["mixed"]:
        whole, above, below = (int(part) for part in re.findall(r"\d+", text))
        if not 0 < above < below:
            return False
        side.tokens.append(whole + Fraction(above, below))
    elif found["number"]:
        digits = re.sub(rf"^{CURRENCY}\s?", "", text)
        if len(digits) > MOST_DIGITS:
            return False
        side.tokens.append(decimal(digits))
        side.places = len(digits.partition(".")[2])
    elif found["percent"]:
        if not side.tokens or not isinstance(side.tokens[-1], Fraction):
            return False
        side.tokens[-1] = side.tokens[-1] / 100
        side.percent = True
    elif found["raised"]:
        side.tokens += ["^", Fraction(2 if text == "²" else 3)]
    else:
        side.tokens.append({"×": "*", "x": "*", "X": "*", "÷": "/", "**": "^", "[": "(", "]": ")"}.get(text, text))
    return True


def _after_operand(side: _Side, line: str, position: int) -> int:
    """Reads units, notes, `of` and remainders behind an operand; -1 where the unit is an unknown."""
    if found := _REMAINDER.match(line, position):
        side.remainder = int(found[1]) if len(found[1]) < MOST_DIGITS else None
        return found.end()
    if found := _TIMES.match(line, position):
        side.tokens.append("*")
        return found.end()
    if found := _NOTE.match(line, position):
        return found.end()
    if found := _VARIABLE.match(line, position):
        letter = found[0].strip()
        if letter not in _SHORT_UNITS and not re.match(r"\s?[xX]\s?[\d($¥€£]", line[position : position + 4]):
            return -1
    if not re.match(r"\s?[xX]\s?[\d($¥€£]", line[position : position + 4]) and (found := _UNIT.match(line, position)):
        side.units.add(found[0].strip())
        return found.end()
    return position


def _judged(sides: list[_Side], line: str) -> Iterator[Equation]:
    for left, right in pairwise(sides):
        first, second = left.value, right.value
        assert first is not None and second is not None
        holds = _holds(left, right, first, second)
        if not holds and _may_be_something_else(left, right):
            continue
        if left.is_single and right.is_single:
            continue
        yield Equation(line[left.start : right.end].strip(), second, holds)


def _holds(left: _Side, right: _Side, first: Fraction, second: Fraction) -> bool:
    if right.remainder is not None:
        *before, sign, divisor = left.tokens
        dividend = value_of(before) if sign == "/" else None
        if dividend is None or not isinstance(divisor, Fraction):
            return False
        return dividend == divisor * second + right.remainder
    room = Fraction(1, 10**right.places) if right.places and right.is_single else Fraction(0)
    if right.percent:
        room /= 100
    if right.sign in ("≈", "≒"):
        room = max(room, Fraction(1, 2) if right.is_single and not right.places else Fraction(0), abs(first) / 50)
    readings = [second, second * 100] if right.percent and right.is_single else [second]
    return any(abs(first - value) < room or first == value for value in readings)


def _may_be_something_else(left: _Side, right: _Side) -> bool:
    """5 m + 20 cm = 520 cm, 20 - 25% = 15 and what is said below: no false calculations, but other things."""
    signs = [token for token in left.tokens if isinstance(token, str)]
    if any(len(unit) == 1 and unit.isascii() for unit in left.units | right.units):  # 3t + 4 = 19
        return True
    if left.units and (left.is_single or signs == ["/"]):  # 2 days = 7 + 2; 1/2 hour = 30 minutes
        return True
    if signs[-2:] == ["/", "/"]:  # 60 / 3/4 = 80
        return True
    has_sum = bool({"+", "-"} & set(signs))
    return has_sum and (left.percent or (len(left.units) > 1 and not {"*", "/"} & set(signs)))
