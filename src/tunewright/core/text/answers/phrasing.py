r"""Which number of a text is its final answer: `####`, \boxed, the words that announce an answer, the last sentence."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from tunewright.core.text.answers import cuts
from tunewright.core.text.answers.context import CURRENCY, quantities
from tunewright.core.text.answers.cues import GAP, REPLY, REVERSED, cues
from tunewright.core.text.answers.numbers import Kind, Number
from tunewright.core.text.answers.plain import boxed, plain
from tunewright.core.text.answers.select import Passage, Question, alike, compete, is_negated, pick, result_of

LONGEST = 6_000
"""Characters looked at, at the start and at the end: an answer that is longer has said it there."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A final answer. value: as written, 95 for 95%. parts: of a ratio or time. also: the value in the smaller unit of
    5元5角. text: as it stands in the plain text; cue: what showed that it is the answer."""

    value: Fraction
    percent: bool
    parts: tuple[Fraction, ...]
    also: tuple[Fraction, ...]
    kind: Kind
    text: str
    cue: str

    def __str__(self) -> str:
        """73, 18.5, 2/3, 95%, 3:2."""
        if self.parts:
            return ":".join(str(part) for part in self.parts)
        return _decimal(self.value) + ("%" if self.percent else "")


def _decimal(value: Fraction) -> str:
    """Exact: as a decimal where that ends, else as a fraction."""
    below = value.denominator
    for prime in (2, 5):
        while below % prime == 0:
            below //= prime
    if below != 1 or value.denominator == 1:
        return str(value)
    places = next(n for n in range(1, value.denominator.bit_length() + 1) if 10**n % value.denominator == 0)
    digits = f"{abs(value.numerator) * 10**places // value.denominator:0{places + 1}d}"
    return f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"


_ALONE = re.compile(rf"(?:[^\w\0]|{CURRENCY})*\0\s?(?:[A-Za-z°²³/%]{{1,12}}|[\u4e00-\u9fff]{{1,4}})?[^\w+*×÷=/-]*")


def final_answer(text: str, question: str | Question = "") -> Answer | None:
    """The final answer of `text`, None where there is none or several are offered. question: what was asked; numbers
    that it gives are less likely to be the answer. A `Question` says afterwards whether that was needed."""
    if isinstance(question, str):
        question = Question(question[:LONGEST])
    body = plain(text if len(text) <= 2 * LONGEST else f"{text[:LONGEST]}\n\n{text[-LONGEST:]}")
    body = cuts.after_thinking(body)
    body = body[: cuts.run_on(body)]
    passage = _before_second_question(Passage(body, 0, len(body), quantities(body), question))
    body = passage.text
    for cue, found in (
        ("####", _hashes(passage)),
        ("boxed", _boxed(passage)),
        ("announced", _announced(passage)),
    ):
        if found is not _NOTHING:
            return _answer(found, body, cue)
    if alone := _emphasized(text, passage) or _alone(passage):
        return _answer(alone, body, "alone")
    return _answer(_last_sentence(passage), body, "last sentence")


def _before_second_question(passage: Passage) -> Passage:
    """The text up to a question that is not the one asked: one with numbers that the asked question does not give."""
    for start, end in cuts.second_questions(passage.text):
        given = passage.question.values
        values = {number.value for number in passage.part(start, end).numbers}
        if not given or not values <= given:
            body = passage.text[:start]
            return Passage(body, 0, start, passage.part(0, start).numbers, passage.question)
    return passage


_NOTHING = object()
"""A cue that is not there; None means that it is there and shows no single number."""
Found = Number | None | object


def _answer(found: Found, body: str, cue: str) -> Answer | None:
    if not isinstance(found, Number):
        return None
    text = body[found.start : found.end]
    return Answer(found.value, found.percent, found.parts, found.also, found.kind, text, cue)


def _hashes(passage: Passage) -> Found:
    """The first `####` with a number right behind it (a heading has words there)."""
    for mark in re.finditer(r"(?m)####[ \t]*", passage.text):
        line = passage.part(mark.end(), cuts.line_end(passage.text, mark.end()))
        if line.numbers and _is_next(line) and line.numbers[0].rank < 2:
            return _first(line)
    return _NOTHING


def _boxed(passage: Passage) -> Found:
    r"""The last \boxed before a second question; two joined by `or` are no answer."""
    boxes: list[Passage] = []
    for start, inside, end in boxed(passage.text):
        if boxes and cuts.asks(passage.text, boxes[-1].end, start):
            break
        boxes.append(passage.part(inside, end))
    if not boxes:
        return _NOTHING
    picked = [pick(box) for box in boxes]
    for before, after in pairwise(boxes):
        between = passage.text[before.end + 1 : after.start - len("\\boxed{")]
        first, second = pick(before), pick(after)
        joined = re.fullmatch(
            r"[\s$,]*(?:\b(?:or|and)\b|或者?|和|与|,|、|也可能是|可能是)[\s$]*", between, re.IGNORECASE
        )
        if joined and after is boxes[-1] and first and second and not alike(first, second):
            return None
    return picked[-1]


def _announced(passage: Passage) -> Found:
    """The number that words like `the answer is` or 答案是 announce. Of several: the corrected one, else the one of
    the strongest words; where those disagree there is no answer. What follows a second question does not count."""
    resolved: list[tuple[int, int, int, Number | None]] = []
    for strength, start, end in cues(passage.text):
        number = _behind(end, passage)
        if number is _NOTHING:
            continue
        if resolved and cuts.asks(passage.text, resolved[-1][2], start):
            break
        assert number is None or isinstance(number, Number)
        resolved.append((strength, start, number.end if number else end, number))
    if not resolved:
        return _reversed(passage)
    best = max(strength for strength, *_ in resolved)
    chosen, chosen_end = None, 0
    for strength, start, end, number in resolved:
        is_corrected = bool(chosen_end) and cuts.corrects(passage.text, chosen_end, start)
        if strength < best and not is_corrected:
            continue
        if chosen_end and not is_corrected and (chosen is None or number is None or not alike(chosen, number)):
            return None
        chosen, chosen_end = number, end
    return _corrected(chosen, chosen_end, passage)


def _behind(cue_end: int, passage: Passage) -> Found:
    """The number that an announcement leads to: right behind it, else in its sentence, else in the next line."""
    stretch = passage.part(cue_end, cuts.paragraph_end(passage.text, cue_end))
    if stretch.numbers and _is_next(stretch) and not REPLY.search(passage.text, max(0, cue_end - 3), cue_end):
        return _first(stretch)
    for end in cuts.sentence_ends(passage.text, cue_end):
        sentence = passage.part(cue_end, end)
        if any(not is_negated(number, passage.text) for number in sentence.numbers):
            return pick(sentence)
        if end - cue_end > 200 or sentence.numbers:
            break
    return _NOTHING


def _is_next(passage: Passage) -> bool:
    """Whether only signs and filling words stand before the first number."""
    first = passage.numbers[0]
    gap = passage.text[passage.start : first.start]
    return bool(GAP.fullmatch(gap)) and not is_negated(first, passage.text)


def _first(passage: Passage) -> Number | None:
    """The first number, or what its equation comes to; None where another is offered beside it."""
    numbers = passage.numbers
    result, last = result_of(0, passage)
    sure = [number for number in numbers[last:] if number.rank < 2]
    if result is not None and len(sure) > 1 and sure[0] is numbers[last] and compete(sure[0], sure[1], passage.text):
        return None
    return result


def _reversed(passage: Passage) -> Found:
    """73 is the answer."""
    for number in reversed(passage.numbers):
        if REVERSED.match(passage.text, number.end) and not is_negated(number, passage.text):
            place = passage.numbers.index(number)
            if place and compete(passage.numbers[place - 1], number, passage.text):
                return None
            return number
    return _NOTHING


def _corrected(number: Number | None, end: int, passage: Passage) -> Number | None:
    """The number of a correction that follows (不对，是 13), else `number` itself."""
    mark = cuts.correction(passage.text, end)
    if mark is None:
        return number
    for stop in cuts.sentence_ends(passage.text, mark):
        sentence = passage.part(mark, stop)
        if sentence.numbers:
            return pick(sentence) or number
    return number


def _emphasized(text: str, passage: Passage) -> Number | None:
    """The only number in bold, in a text that announces no answer."""
    values = []
    for bold in re.findall(r"\*\*([^*\n]{1,40})\*\*", text):
        inside = plain(bold)
        if re.match(rf"\s*(?:{CURRENCY}|-)?\s*\d", inside):
            values += [number for number in quantities(inside) if number.rank < 2]
    if not values or not all(alike(values[0], value) for value in values):
        return None
    return next((number for number in reversed(passage.numbers) if alike(number, values[0])), None)


def _alone(passage: Passage) -> Number | None:
    """The only line that is nothing but a number and its unit."""
    found = []
    for number in passage.numbers:
        begin = passage.text.rfind("\n", 0, number.start) + 1
        end = cuts.line_end(passage.text, number.start)
        line = f"{passage.text[begin : number.start]}\0{passage.text[number.end : end]}"
        if number.rank < 2 and _ALONE.fullmatch(line) and not is_negated(number, passage.text):
            found.append(number)
    return found[0] if found and all(alike(found[0], number) for number in found) else None


def _last_sentence(passage: Passage) -> Number | None:
    """The pick of the last sentence with numbers that is no remark or question."""
    sentences = [passage.part(start, stop) for start, stop in cuts.sentences(passage.text)]
    sentences = [sentence for sentence in sentences if sentence.numbers]
    told = [s for s in sentences[1:] if not cuts.is_remark(passage.text[s.start : s.end])]
    chosen = [*(s for s in sentences[:1] if not cuts.asks(passage.text, s.start, s.end)), *told]
    if not chosen:
        return None
    best = min(number.rank for sentence in chosen for number in sentence.numbers)
    ranked = [s for s in chosen if any(number.rank == best for number in s.numbers)]
    last = ranked[-1]
    place = passage.numbers.index(last.numbers[0])
    around = passage.numbers[max(0, place - 1) : place + len(last.numbers) + 1]
    if any(compete(*pair, passage.text) for pair in pairwise(around)):
        return None
    return pick(last)
