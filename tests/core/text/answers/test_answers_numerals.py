"""Number words: golden values by hand, and every Chinese numeral against a speller written here."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest
from notations import han_whole

from tunewright.core.text.answers.chinese import numeral
from tunewright.core.text.answers.context import quantities
from tunewright.core.text.answers.english import WORDS, words
from tunewright.core.text.answers.plain import plain


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("零", 0), ("十", 10), ("十二", 12), ("二十", 20), ("廿三", 23), ("一百", 100), ("一百零五", 105),
        ("两百零五", 205),
        ("三百五", 350), ("三千二", 3200), ("两万五", 25000), ("一千零五十", 1050), ("十二万三千四百五十六", 123456),
        ("三亿五千万", 350_000_000), ("五十万亿", 50 * 10**12), ("二〇二五", 2025), ("壹佰贰拾叁", 123), ("一百一十",
        110),
        ("二十三点五", Fraction(47, 2)), ("零点零五", Fraction(1, 20)), ("一点二万", 12000), ("三点一四",
        Fraction(157, 50)),
    ],
)  # fmt: skip
def test_chinese(text: str, value: Fraction) -> None:
    assert numeral(text) == value


@pytest.mark.parametrize("text", ["三四", "千万", "万一", "百", "一百零", "三十五千", "点五", "十十", "一万万万亿零"])
def test_what_is_no_numeral(text: str) -> None:
    assert numeral(text) is None


def test_every_whole_number_as_it_is_taught() -> None:
    numbers = [*range(2000), *range(9990, 10200), *range(99_000, 1_100_000, 997), *range(10**8 - 50, 10**8 + 50)]
    assert [n for n in numbers if numeral(han_whole(n)) != n] == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("seventy-three", 73), ("one hundred and five", 105), ("two thirds", Fraction(2, 3)), ("a half",
        Fraction(1, 2)),
        ("three and a half", Fraction(7, 2)), ("twenty-five hundred", 2500), ("Two million", 2_000_000),
        ("one thousand two hundred and thirty-four", 1234), ("one two", None), ("a hundred", 100),
    ],
)  # fmt: skip
def test_english(text: str, value: Fraction | None) -> None:
    found = re.fullmatch(WORDS, text, re.IGNORECASE)
    assert found is not None
    assert words(text) == value


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("10-3=7", [10, 3, 7]), ("答案是-5", [-5]), ("- 73", [73]), ("-73", [-73]), ("COVID-19", [19]), ("-$5", [-5]),
        ("负三", [-3]), ("零下5度", [-5]), ("m2, A4, x_1", []), ("1.2.3", []), ("2024/5/1", []), ("一共七十三个", [73]),
        ("统一、一起、四舍五入", []), ("20多个", []), ("5元5角", [Fraction(11, 2)]), ("2小时30分钟", [Fraction(5, 2)]),
        ("5千克", [5]), ("5千", [5000]), ("3万5", [35000]), ("1万2345", [12345]), ("1,234,567.5",
        [Fraction(2469135, 2)]),
        ("1.234,50", [Fraction(2469, 2)]), ("1'234", [1234]), ("10,100,1000", [10, 100, 1000]), ("12, 345", [12, 345]),
        ("5比3大2", [5, 3, 2]), ("Step 1: 73", [73]), ("第3题：73", [73]), ("½", [Fraction(1, 2)]), ("٧٣", [73]),
        ("one of them has two", [2]), ("9" * 31, []), ("1e400", []),
    ],
)  # fmt: skip
def test_numbers_in_a_text(text: str, values: list[Fraction]) -> None:
    assert [number.value for number in quantities(plain(text))] == values


def test_list_numbers_and_ordinals_come_last() -> None:
    ranks = {number.value: number.rank for number in quantities("1. 买5支\n2. 买7支\n第3天，一个")}
    assert ranks == {1: 1, 5: 0, 2: 2, 7: 0, 3: 2}
