"""Full recall: valid numbers, made here by their own check digit code, between random texts."""

from __future__ import annotations

import unicodedata
from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.core.text.pii import find_pii, mask

_WIDE = {code: chr(code + 0xFEE0) for code in range(0x21, 0x7F)}
_HAN = st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF)
_ASCII = st.characters(min_codepoint=0x20, max_codepoint=0x7E)
_FULL = st.characters(min_codepoint=0xFF01, max_codepoint=0xFF5E)
_TEXT = st.text(st.one_of(_HAN, _ASCII, _FULL, st.sampled_from("，。！？：\n\t \u3000")), max_size=12)


def digits(count):
    return st.text("0123456789", min_size=count, max_size=count)


def luhn_digit(number):
    total = 0
    for place, digit in enumerate(reversed(number)):
        doubled = int(digit) * (2 if place % 2 == 0 else 1)
        total += doubled // 10 + doubled % 10
    return str(-total % 10)


@st.composite
def cards(draw):
    prefix, length = draw(
        st.sampled_from(
            [("62", n) for n in range(16, 20)]
            + [("4", 13), ("4", 16), ("4", 19), ("34", 15), ("37", 15), ("36", 14), ("6011", 16), ("65", 16)]
            + [(str(n), 16) for n in (51, 52, 53, 54, 55, 2221, 2500, 2720, 3528, 3589)]
        )
    )
    body = prefix + draw(digits(length - len(prefix) - 1))
    return body + luhn_digit(body)


@st.composite
def grouped_cards(draw):
    number = draw(cards().filter(lambda card: len(card) in (16, 19)))
    return draw(st.sampled_from(" -")).join(number[at : at + 4] for at in range(0, len(number), 4))


@st.composite
def id_cards(draw):
    born = date(1900, 1, 1) + timedelta(days=draw(st.integers(0, 45_000)))
    body = f"{draw(st.integers(110000, 659004))}{born:%Y%m%d}{draw(digits(3))}"
    total = sum(int(digit) * (2 ** (17 - place) % 11) for place, digit in enumerate(body))
    check = (12 - total % 11) % 11
    return body + draw(st.sampled_from("Xx") if check == 10 else st.just(str(check)))


@st.composite
def old_id_cards(draw):
    born = date(1900, 1, 1) + timedelta(days=draw(st.integers(0, 36_000)))
    return f"{draw(st.sampled_from(['110105', '310101', '440301', '650102']))}{born:%y%m%d}{draw(digits(3))}"


@st.composite
def mobiles(draw):
    number = f"1{draw(st.sampled_from('3456789'))}{draw(digits(9))}"
    form = draw(st.sampled_from(["{}", "{}", "+86{}", "{}-{}-{}", "{} {} {}", "+86 {} {} {}"]))
    return form.format(number) if form.count("{}") == 1 else form.format(number[:3], number[3:7], number[7:])


@st.composite
def landlines(draw):
    area, count = draw(st.sampled_from([("010", 8), ("021", 8), ("028", 8), ("0571", 8), ("0371", 8), ("0898", 7)]))
    local = draw(st.sampled_from("23456789")) + draw(digits(count - 1))
    return draw(st.sampled_from(["{}-{}", "({}){}", "{} {}", "{}{}"])).format(area, local)


internationals = st.builds("+{}{}".format, st.sampled_from("2345679"), st.integers(7, 13).flatmap(digits))


@st.composite
def emails(draw):
    name = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=1, max_size=10)
    local = draw(st.sampled_from(["{}", "{}.{}", "{}_{}", "{}-{}", "{}+{}"])).format(draw(name), draw(name))
    top = draw(st.sampled_from(["com", "cn", "com.cn", "org", "io", "edu.cn", "museum"]))
    return f"{local}@{draw(name)}.{top}"


NUMBERS = {
    "bank_card": st.one_of(cards(), grouped_cards()),
    "id_card": st.one_of(id_cards(), old_id_cards()),
    "phone": st.one_of(mobiles(), landlines(), internationals),
    "email": emails(),
}


def folded(text):
    return unicodedata.normalize("NFKC", text)


def is_part_of_another(number, before, behind):
    """Neighbours that make another number of it: digits; `0.`, which makes a fraction; a digit and a hyphen or blank
    beside a grouped number, which make another grouping; a decimal point behind digits before a mobile number."""
    before, number, behind = folded(before), folded(number), folded(behind)
    if before[-1:].isdecimal() or behind[:1].isdecimal() or (before[-1:] == "." and before[-2:-1].isdecimal()):
        return True
    if before[-1:] == "+" and len(number) < 16:
        return True  # what follows a plus is a telephone number
    is_grouped = not number.lstrip("+").isalnum()
    return is_grouped and (before.rstrip(" -")[-1:].isdecimal() or behind.lstrip(" -")[:1].isdecimal())


@pytest.mark.parametrize("kind", NUMBERS)
@settings(max_examples=300, deadline=None, derandomize=True)
@given(data=st.data())
def test_full_recall_between_any_texts(kind, data):
    number = data.draw(NUMBERS[kind])
    if data.draw(st.booleans()):
        number = number.translate(_WIDE)
    before, behind = data.draw(_TEXT), data.draw(_TEXT)
    if kind != "email" and is_part_of_another(number, before, behind):
        return
    text = before + number + behind
    kinds = (kind, "email") if "@" in folded(behind) else (kind,)  # `138...@163.com` is an address
    start, stop = len(before), len(before) + len(number)
    spans = find_pii(text)
    assert any(s.kind in kinds and s.start <= start and stop <= s.end for s in spans), (text, spans)
    assert number not in mask(text, spans)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    number=st.one_of(cards(), id_cards(), mobiles()),
    digit=st.sampled_from("0123456789０９"),
    before=st.booleans(),
)
def test_a_digit_more_makes_it_another_number(number, digit, before):
    """Nothing is found inside a longer run of digits; the longer one may itself be a number."""
    longer = digit + number if before and number[0].isdigit() else number + digit
    for span in find_pii(longer):
        at_start = span.start == 0 or not longer[span.start - 1].isdecimal()
        at_end = span.end == len(longer) or not longer[span.end].isdecimal()
        assert at_start and at_end, (longer, span)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(text=st.text(max_size=60), number=st.one_of(*NUMBERS.values()))
def test_any_text_is_masked_without_loss_and_only_once(text, number):
    whole = text + number
    spans = find_pii(whole)
    kept = mask(whole, spans, label=lambda span, original: original)
    assert kept == whole
    assert all(0 <= span.start < span.end <= len(whole) for span in spans)
    assert all(first.end <= second.start for first, second in pairwise(spans))
    assert len(find_pii(number)) == 1
