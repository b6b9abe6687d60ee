"""The answer's number among the numbers of a stretch of text, or none where several are offered."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from operator import attrgetter

from tunewright.core.text.answers.context import CURRENCY, quantities
from tunewright.core.text.answers.numbers import Number
from tunewright.core.text.answers.plain import plain

_UNIT = r"(?:\s?[A-Za-z°²³/]{1,12}|\s?[\u4e00-\u9fff]{1,4})?"
_HEDGE = re.compile(
    r"\bor\b|或|\bmaybe\b|\bperhaps\b|\bpossibly\b|\beither\b|\bmight\b|\bcould (?:also )?be\b|也许|可能"
    r"|还是(?!要)|不确定|最多|至多|\bat most\b",
    re.IGNORECASE,
)
_PREFIX = rf"(?:[a-zA-Z]_?\d?\s?=\s?|\(\d\)\s*|\(?[A-F][.:)]\s?|{CURRENCY})?"
_LISTED = re.compile(
    rf"[\s,、;|]*{_PREFIX}|{_UNIT}\s*(?:,?\s*\b(?:and|to|through)\b|和|与|及|跟|到|至|[-~～—–…&]+)"
    rf"\s*{_PREFIX}\s*"
)
_DOTTED = re.compile(rf"[\s,、;|/。.?!]*{_PREFIX}")
_ENDS = re.compile(r"[\s,、;|/。.?!)\"]*(?:\d|$)")
_OPERATOR = re.compile(
    rf"{_UNIT}[\s)\]}}]*(?P<sign>=|≈|~=|等于|约等于|约为|得到?|[-+*/×÷]|[xX](?=[\s\d(])|加上?|减去?|乘以?|除以)"
    rf"(?:[\s($¥€£\[{{]|{CURRENCY}|约)*(?:[A-Za-z]\s?=\s?)?"
)
_STOP = re.compile(r"[。!?\n]|\.\s")
_WORD = re.compile(r"\w")
_EQUALS = ("=", "≈", "~=", "等于", "约等于", "约为", "得", "得到")
_AFTER_EQUALS = re.compile(rf"(?:=|≈|等于|约为)\s*(?:[\s(]|{CURRENCY}|约)*$")
_NEGATED = re.compile(
    r"(?:不是|并非|不等于|不为|而非|不(?:会|可能|应该?)是|≠|!=|\b(?:not|isn't|isnt|wasn't|rather than"
    r"|instead of|never))"
    r"\s*(?:equal to|be|是|just|exactly)?\s*[$¥€£\"]*$"
    r"|(?:[<>≤≥]|大于|小于|\b(?:greater|less|more|fewer) than)\s*$",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"[\"'$\s]*(?:[\u4e00-\u9fff]{0,2}(?:不是|并非|不对|是错)|(?:is|was|are)(?: not\b|n't\b| wrong| incorrect))",
    re.IGNORECASE,
)
_ALTERNATIVE = re.compile(
    r"[。.!?\n]\s*(?:也(?:许|可能|有可能|或)|又?或|\b(?:or|maybe|perhaps|possibly|alternatively|it (?:could|might))\b)",
    re.IGNORECASE,
)
_TOTAL = re.compile(
    r"所以|因此|\b(?:so|thus|therefore|hence)\b|一共|总共|共|合计|总计|还剩|剩下?|需要?|平均|\btotal"
    r"|\baltogether\b|\bin all\b|\bleft\b|\bremain"
)
_CLAUSE = re.compile(
    r"[,;:]\s|[,;:](?=[^\d\s])|(?<=[^\d])[,;]|、"
    r"|\s(?=(?:after|because|since|if|when|while|from|out of|than|including|by \w+ing|for)\s)",
    re.IGNORECASE,
)
_SUBORDINATE = re.compile(
    r"\s*(?:if|when|after|because|since|while|given|from|out of|than|including|of which|for|by|instead"
    r"|如果|若|当|因为|由于|假如|假设|已知|比|其中|包括|原来|开始)",
    re.IGNORECASE,
)


class Question:
    """What was asked. The numbers it gives are looked up only where that decides, and `is_needed` says so then."""

    def __init__(self, text: str = "") -> None:
        self.text, self.is_needed = text, False

    @property
    def values(self) -> frozenset[Fraction]:
        """The numbers that the question gives."""
        self.is_needed = True
        return _values_in(self.text)


@dataclass(frozen=True)
class Passage:
    """`text[start:end]` with the numbers in it; question: what was asked."""

    text: str
    start: int
    end: int
    numbers: Sequence[Number]
    question: Question

    def part(self, start: int, end: int) -> Passage:
        """A stretch of this one; start and end are places of the whole text."""
        first = bisect_left(self.numbers, start, key=attrgetter("start"))
        last = bisect_right(self.numbers, end, key=attrgetter("end"))
        inside = self.numbers[first : max(first, last)]
        return Passage(self.text, start, end, inside, self.question)


def alike(first: Number, second: Number) -> bool:
    """Whether two numbers say the same: 1/2, 0.5 and 50%."""
    if first.parts and second.parts and first.parts == second.parts:
        return True
    left, right = ((n.value / 100 if n.percent else n.value, *n.also) for n in (first, second))
    return bool(set(left) & set(right))


def is_negated(number: Number, text: str) -> bool:
    """Whether the text says that it is not this number."""
    return bool(_NEGATED.search(text, max(0, number.start - 24), number.start) or _DENIED.match(text, number.end))


def compete(first: Number, second: Number, text: str) -> bool:
    """Whether two neighbours are offered side by side (12 或 13; 12, 13; 12-13), so that neither is the answer."""
    if alike(first, second) or first.rank == 2 or second.rank == 2:
        return False
    between = text[first.end : second.start]
    if not between.strip():
        return "\n" not in between or _is_alone(second, text)
    same_sentence = not _STOP.search(between)
    if _ALTERNATIVE.search(between):
        return True
    if same_sentence and _HEDGE.search(between):
        return not is_negated(first, text)
    if _DOTTED.fullmatch(between) and _ENDS.match(text, second.end):  # 12? 13? 14?
        return True
    return bool(_LISTED.fullmatch(between)) and ("\n" not in between or _is_alone(second, text))


def _is_alone(number: Number, text: str) -> bool:
    """Whether the number has its line for itself."""
    end = text.find("\n", number.end)
    rest = text[number.end : end if end >= 0 else len(text)]
    return not _WORD.search(rest)


def result_of(first: int, passage: Passage) -> tuple[Number | None, int]:
    """The number that the expression starting at number `first` comes to, and the index of its last number.

    70 + 3 = 73 comes to 73, 73 = 70 + 3 too, 73 to itself; 70 + 3 alone to nothing.
    """
    numbers, text = passage.numbers, passage.text
    sides, last = [[numbers[first]]], first
    while last + 1 < len(numbers):
        sign = _OPERATOR.fullmatch(text, numbers[last].end, numbers[last + 1].start)
        if sign is None:
            break
        last += 1
        if sign["sign"] in _EQUALS:
            sides.append([numbers[last]])
        else:
            sides[-1].append(numbers[last])
    single = [side[0] for side in sides if len(side) == 1]
    return (single[-1] if single else None), last


def pick(passage: Passage) -> Number | None:
    """The answer of a sentence: what its last equation comes to, else its only number, else the only one that the
    question does not give, else the last number of the clause that speaks of a total, of the first clause."""
    text = passage.text
    numbers = [number for number in passage.numbers if not is_negated(number, text)]
    outside = _outside_brackets(numbers, passage)
    free = {number.start for number in outside}
    if any(first.start in free and compete(first, second, text) for first, second in pairwise(numbers)):
        return None
    numbers = outside or numbers
    if not numbers:
        return None
    best = min(number.rank for number in numbers)
    clean = Passage(text, passage.start, passage.end, [n for n in numbers if n.rank == best], passage.question)
    if any(compete(*pair, text) for pair in pairwise(clean.numbers)):
        return None
    equations = _equation_results(clean)
    if equations is not None:
        return equations[-1] if equations else None
    return _plain_choice(clean)


def _equation_results(passage: Passage) -> list[Number] | None:
    """What the equations come to; None without any; empty where an expression stands without a result."""
    results, position, had_open = [], 0, False
    while position < len(passage.numbers):
        number, last = result_of(position, passage)
        start = passage.numbers[position].start
        if last > position or _AFTER_EQUALS.search(passage.text, max(passage.start, start - 8), start):
            had_open = had_open or number is None
            results += [number] if number is not None else []
        position = last + 1
    return results if results or had_open else None


def _plain_choice(passage: Passage) -> Number:
    numbers = passage.numbers
    if all(alike(numbers[0], number) for number in numbers):
        return numbers[0]
    given = passage.question.values
    new = [number for number in numbers if _value(number) not in given]
    if new and all(alike(new[0], number) for number in new):
        return new[0]
    clauses = _clauses(passage)
    clauses = [clause for clause in clauses if not _SUBORDINATE.match(passage.text, clause.start)] or clauses
    total = [clause for clause in clauses if _TOTAL.search(passage.text, clause.start, clause.end)]
    return (total[-1] if total else clauses[0]).numbers[-1]


@lru_cache(maxsize=8)
def _values_in(question: str) -> frozenset[Fraction]:
    return frozenset(_value(number) for number in quantities(plain(question)))


def _clauses(passage: Passage) -> list[Passage]:
    """The clauses with numbers."""
    cuts = [cut.end() for cut in _CLAUSE.finditer(passage.text, passage.start, passage.end)]
    places = [passage.start, *cuts, passage.end]
    parts = [passage.part(start, end) for start, end in pairwise(places)]
    return [part for part in parts if part.numbers] or [passage]


def _value(number: Number) -> Fraction:
    return number.value / 100 if number.percent else number.value


def _outside_brackets(numbers: Sequence[Number], passage: Passage) -> list[Number]:
    found, depth, position = [], 0, passage.start
    for number in numbers:
        between = passage.text[position : number.start]
        depth, position = max(0, depth + between.count("(") - between.count(")")), number.start
        if not depth:
            found.append(number)
    return found
