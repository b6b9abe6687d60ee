"""The extractor on answers as models write them: right ones are accepted, others are not."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest
from answer_cases import ACCEPTED, REFUSED
from hypothesis import given, settings
from hypothesis import strategies as st
from notations import NOTATIONS, PHRASINGS_EN, PHRASINGS_ZH

from tunewright.core.text.answers.agree import agree, near
from tunewright.core.text.answers.equations import equations
from tunewright.core.text.answers.phrasing import Answer, final_answer
from tunewright.core.text.answers.steps import stated_values


def read(text: str, question: str = "") -> Answer:
    found = final_answer(text, question)
    assert found is not None, text
    return found


def value(answer: Answer | None) -> Fraction | None:
    return None if answer is None else answer.value / (100 if answer.percent else 1)


@pytest.mark.parametrize(("prediction", "reference"), ACCEPTED, ids=[text[:40] for text, _ in ACCEPTED])
def test_right_answers_are_accepted(prediction: str, reference: str) -> None:
    assert agree(read(prediction), read(reference)), f"read {final_answer(prediction)}"


@pytest.mark.parametrize(("prediction", "reference"), REFUSED, ids=[f"{a[:40]} {b}" for a, b in REFUSED])
def test_wrong_hedging_and_run_on_answers_are_not(prediction: str, reference: str) -> None:
    found = final_answer(prediction)
    assert found is None or not agree(found, read(reference)), f"read {found}, by {found.cue}"


def test_there_are_enough_phrasings() -> None:
    assert len(PHRASINGS_ZH) >= 30 and len(PHRASINGS_EN) >= 25
    assert len(set(ACCEPTED)) >= 300 and len(set(REFUSED)) >= 150


VALUES = [Fraction(n, d) for n, d in ((0, 1), (1, 1), (10, 1), (73, 1), (-5, 1), (7, 2), (1, 3), (19, 20), (12000, 1),
          (350_000_000, 1), (1234, 1), (2469, 2), (205, 1), (47, 2), (-1, 2), (100, 1), (1, 20),
          (30_030_003, 1))]  # fmt: skip


@pytest.mark.parametrize("phrasing", [*PHRASINGS_ZH, *PHRASINGS_EN])
def test_every_notation_in_every_phrasing(phrasing: str) -> None:
    written = [(number, text) for number in VALUES for form in NOTATIONS if (text := form(number)) is not None]
    wrong = [
        (text, str(number), str(found))
        for number, text in written
        if value(found := final_answer(phrasing.format(text))) != number
    ]
    assert len(written) > 200
    assert not wrong


@settings(max_examples=300, deadline=None)
@given(
    st.fractions(min_value=-(10**9), max_value=10**9, max_denominator=10**6)
    | st.builds(Fraction, st.integers(-(10**12), 10**12), st.sampled_from([1, 2, 3, 4, 5, 7, 8, 10, 100, 1000])),
    st.sampled_from(NOTATIONS),
    st.sampled_from(PHRASINGS_ZH + PHRASINGS_EN),
)
def test_any_rational_in_any_notation_comes_back(number: Fraction, form: object, phrasing: str) -> None:
    assert callable(form)
    text = form(number)
    if text is not None:
        assert value(final_answer(phrasing.format(text))) == number


@settings(max_examples=200, deadline=None)
@given(st.integers(-1000, 1000), st.integers(-1000, 1000), st.sampled_from(PHRASINGS_ZH + PHRASINGS_EN))
def test_two_offered_answers_are_none(first: int, second: int, phrasing: str) -> None:
    for joined in (f"{first} 或 {second}", f"{first} or {second}", f"{first}、{second}"):
        found = final_answer(phrasing.format(joined))
        assert first == second or found is None, (phrasing.format(joined), str(found))


@settings(max_examples=200, deadline=None)
@given(
    st.text(max_size=200)
    | st.text("0123456789,.%/:-=+*()$ 一二两三十百千万亿点分之又零又半或是答案#\\{}boxedfrac\n", max_size=80)
)
def test_no_text_is_too_strange(text: str) -> None:
    found = final_answer(text, text[::-1])
    assert found is None or isinstance(found.value, Fraction)


@pytest.mark.parametrize(
    "text",
    ["9" * 5000, "1e999999999", "10^999", "答案是" * 5000, "\\boxed{" * 3000, "亿" * 3000, "1," * 20000, "一" * 20000,
     "1/" * 10000, "((((" * 5000 + "1", "a " * 30000, "12 或 " * 5000, "= 3 " * 8000, "\n1" * 20000, "-" * 40000 + "1",
     "\\frac{" * 3000, "how many " * 3000, "*1" * 9000, "(1) " * 5000, "<<1=" * 5000],
    ids=lambda text: f"{text[:10]} x {len(text)}",
)  # fmt: skip
def test_hostile_texts_cost_little(text: str) -> None:
    start = time.process_time()
    final_answer(text)
    equations(text)
    stated_values(text)
    assert time.process_time() - start < 5


def test_the_question_tells_a_given_number_from_a_new_one() -> None:
    answer, question = "5个小组共40人，8人一组", "40人分成小组，每组8人，可以分成几组？"
    assert str(final_answer(answer, question)) == "5"
    assert str(final_answer(answer)) != "5"
    assert str(final_answer("40 people in groups of 8 make 5 groups", question)) == "5"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("73", "73"), ("73.0", "73"), ("18.50", "18.5"), ("2/3", "2/3"), ("95%", "95%"), ("3:2", "3:2"), ("-0.125",
        "-0.125"),
        ("1.2万", "12000"), ("百分之二十", "20%"), ("1/8", "0.125"), ("-7/3", "-7/3"), ("3点30分", "3:30"),
    ],
)  # fmt: skip
def test_answers_are_shown_exactly(text: str, shown: str) -> None:
    assert str(read(text)) == shown


@pytest.mark.parametrize(
    ("prediction", "reference", "same"),
    [
        ("95%", "0.95", True), ("95%", "95", True), ("95", "95%", False), ("95", "0.95", False), ("0.95", "95%", True),
        ("0.333333", "1/3", True), ("0.3333", "1/3", False), ("1000000", "1000000.0000005", True),
        ("1000000", "1000001", False), ("0.0000001", "0.0000002", False), ("0", "0.0000001", False),
        ("3:2", "6:4", True), ("3:2", "1.5", True), ("3:30", "7:30", False), ("3:30", "0.1", False),
        ("2小时30分", "150", True), ("2小时30分", "2.5", True), ("5元5角", "5.5", True), ("5元5角", "55", True),
    ],
)  # fmt: skip
def test_what_counts_as_the_same(prediction: str, reference: str, same: bool) -> None:
    assert agree(read(prediction), read(reference)) is same


def test_the_tolerance() -> None:
    assert near(Fraction(1), Fraction(1) + Fraction(1, 10**6))
    assert not near(Fraction(1), Fraction(1) + Fraction(11, 10**7))


def test_the_first_hashes_and_the_last_box_win() -> None:
    assert str(read("#### 73\n#### 12")) == "73"
    assert str(read("\\boxed{5} 不对，\\boxed{73}")) == "73"
    assert str(read("#### Step 1: look\nThe answer is 73.")) == "73"
