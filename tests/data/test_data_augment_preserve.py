"""What a rewording may not change: every rule with what it says, and rewordings that must pass."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.data.augment.facts import facts
from tunewright.data.augment.numerals import numbers
from tunewright.data.augment.preserve import changed_meaning

VALUES = [
    ("37.5", ["37.5"]),
    ("1,200.50", ["1200.5"]),
    ("-5", ["-5"]),
    ("3-5", ["3", "5"]),
    ("1.2万", ["12000"]),
    ("3千万", ["30000000"]),
    ("三百二十", ["320"]),
    ("三百零五", ["305"]),
    ("一万五", ["15000"]),
    ("一万零五", ["10005"]),
    ("两亿三千万", ["230000000"]),
    ("十", ["10"]),
    ("十二", ["12"]),
    ("二十", ["20"]),
    ("二〇二四", ["2024"]),
    ("一万亿", ["1000000000000"]),
    ("三点一四", ["3.14"]),
    ("半年", ["0.5"]),
    ("一年", ["1"]),
    ("一下", []),
    ("一些", []),
    ("万一", []),
    ("十分感谢", []),
    ("十分钟", ["10"]),
    ("two hundred and five", ["205"]),
    ("twenty-one", ["21"]),
    ("three thousand", ["3000"]),
    ("half a year", ["0.5"]),
    ("this one", []),
    ("one year", ["1"]),
    ("none", []),
    ("2 million", ["2000000"]),
]


@pytest.mark.parametrize(("text", "values"), VALUES, ids=[text for text, _ in VALUES])
def test_numbers_have_exact_values(text, values):
    assert [number.value for number in numbers(text)] == [Fraction(value) for value in values]


FACTS = [
    ("花了¥1,200.50", {("AMOUNT", "2401/2 CNY")}),
    ("花了一千二百元", {("AMOUNT", "1200 CNY")}),
    ("$5.00 or 5 dollars", {("AMOUNT", "5 USD")}),
    ("５％", {("PERCENT", "5")}),
    ("百分之五", {("PERCENT", "5")}),
    ("5 percent", {("PERCENT", "5")}),
    ("2024年1月5日", {("DATE", "2024-1-5")}),
    ("2024-01-05", {("DATE", "2024-1-5")}),
    ("十月五号", {("DATE", "10-5")}),
    ("星期三", {("DATE", "weekday3")}),
    ("周三", {("DATE", "weekday3")}),
    ("上个月", {("DATE", "上月")}),
    ("at 3 p.m.", {("DATE", "3 pm")}),
    ("call <PHONE_1>", {("PLACEHOLDER", "<PHONE_1>")}),
    ("hi {{name}}", {("PLACEHOLDER", "{{name}}")}),
    ("订单ORD-2024-0001", {("CODE", "ORD-2024-0001")}),
    ("尾号0010", {("CODE", "0010")}),
    ("010-82038181", {("CODE", "010-82038181")}),
    ("6222020200112233445", {("CODE", "6222020200112233445")}),
    ("intent card_lost", {("CODE", "card_lost")}),
    ("run `rm -r 5`", {("CODE", "`rm -r 5`")}),
    ("a@b.com", {("EMAIL", "a@b.com")}),
    ("see https://x.cn/a?b=1。", {("URL", "https://x.cn/a?b=1")}),
    ("他说“转3元”", {("QUOTE", "转3元")}),
    ("he said 'pay 3'", {("QUOTE", "pay 3")}),
    ("I don't, you don't", set()),
    ("90-day rule", {("NUMBER", "90")}),
    ("usd to cny", {("CURRENCY", "USD"), ("CURRENCY", "CNY")}),
]


@pytest.mark.parametrize(("text", "expected"), FACTS, ids=[text for text, _ in FACTS])
def test_each_part_of_a_text_is_one_fact(text, expected):
    assert set(facts(text).counts) == expected


CHANGED = [
    ("体温37.5度", "体温375度", "NUMBER", "number 37.5 became 375"),
    ("体温３７.５度", "体温37度", "NUMBER", "number 37.5 became 37"),
    ("转三百元给他", "转三千元给他", "AMOUNT", "amount 三百元 became 三千元"),
    ("转5元", "转5美元", "AMOUNT", "amount 5元 became 5美元"),
    ("转5万元", "转5元", "AMOUNT", "amount 5万元 became 5元"),
    ("rate is 5%", "rate is 50%", "PERCENT", "percentage 5% became 50%"),
    ("百分之五", "百分之十五", "PERCENT", "percentage 百分之五 became 百分之十五"),
    ("订单A-100到了", "订单到了", "CODE", "code A-100 is lost"),
    ("打给<PHONE_1>", "打给他", "PLACEHOLDER", "placeholder <PHONE_1> is lost"),
    ("打给他", "打给<PHONE_1>", "PLACEHOLDER", "placeholder <PHONE_1> is invented"),
    ("星期三去", "星期四去", "DATE", "date 星期三 became 星期四"),
    ("上个月的账单", "下个月的账单", "DATE", "date 上个月 became 下个月"),
    ("I paid last week", "I paid next week", "DATE", "date last week became next week"),
    ("发到a@b.com", "发到a@c.com", "EMAIL", "e-mail address a@b.com became a@c.com"),
    ("看http://x.cn/a", "看http://x.cn/b", "URL", "address http://x.cn/a became http://x.cn/b"),
    ("他说“停”了", "他说了停", "QUOTE", "quoted text “停” is lost"),
    ("换美元", "换欧元", "CURRENCY", "currency 美元 became 欧元"),
    ("我没同意", "我同意了", "NEGATION", "1 negation(s) became 0: 没 against none"),
    ("I can pay", "I can't pay", "NEGATION", "0 negation(s) became 1: none against n't"),
    ("I cannot pay", "I can pay", "NEGATION", "1 negation(s) became 0: cannot against none"),
    ("i dont know it", "i know it", "NEGATION", "1 negation(s) became 0: dont against none"),
    ("卡丢了", "卡丢了？", "QUESTION", "0 question mark(s) became 1"),
    ("卡丢了吗？", "卡丢了。", "QUESTION", "1 question mark(s) became 0"),
    ("开户", "开" * 30, "LENGTH", "2 characters became 30, more than 2 times apart"),
    ("第一行\n第二行", "第一行，第二行", "LINES", "2 line(s) became 1"),
    ("我的卡丢了", "I lost my card", "LANGUAGE", "the text is zh, the variant en"),
    ("卡丢了", " ", "EMPTY", "the variant is empty: there was no answer, or it was cut at its limit"),
    ("卡丢了", "卡\u200b丢了", "CHARACTER", "the character U+200B is invented"),
    ("卡丢了", "卡\ud800丢了", "CHARACTER", "the character U+D800 is invented"),
    ("two cards", "three cards", "NUMBER", "number two became three"),
    ("I have a second account", "I have a third account", "NUMBER", "number second became third"),
]


@pytest.mark.parametrize(
    ("text", "variant", "rule", "reason"), CHANGED, ids=[f"{t}>{v[:12]!a}" for t, v, *_ in CHANGED]
)
def test_a_change_is_named(text, variant, rule, reason):
    fault = changed_meaning(text, variant)
    assert fault is not None
    assert (fault.rule, fault.reason) == (rule, reason)


KEPT = [
    ("花了300元", "用了三百块"),
    ("花了¥300", "用掉300元"),
    ("五%的利息", "百分之5的利息"),
    ("能不能查一下", "可以查一下吗"),
    ("有没有网点", "有网点吗"),
    ("这不过是小事", "这只是小事"),
    ("特别急", "很急"),
    ("不得不还", "只好还"),
    ("怎么办", "怎么办？"),
    ("can i pay", "May I pay?"),
    ("I don't know", "I do not know"),
    ("No. 5 is open", "Number 5 is open"),
    ("星期天几点开门", "礼拜日几点开门"),
    ("昨天付的", "昨日付的"),
    ("please pay 5 dollars", "please pay $5"),
    ("三个月的账单", "3个月的账单"),
]


@pytest.mark.parametrize(("text", "variant"), KEPT, ids=[text for text, _ in KEPT])
def test_other_words_for_the_same_pass(text, variant):
    assert changed_meaning(text, variant) is None


def test_slot_values_must_stay_where_they_stood():
    fault = changed_meaning("去东湖支行办卡", "去西湖支行办卡", slots=["东湖支行"])
    assert fault is not None
    assert (fault.rule, fault.reason) == ("SLOT", "slot value 东湖支行 is lost")
    assert changed_meaning("去东湖支行办卡", "到东湖支行办卡", slots=["东湖支行", "不在文中"]) is None
    assert changed_meaning("fly to  Paris", "travel to PARIS", slots=["paris"]) is None


def test_overlap_catches_an_answer_in_place_of_a_paraphrase():
    fault = changed_meaning("卡丢了怎么办", "请您先进行口头申请", min_overlap=0.2)
    assert fault is not None
    assert (fault.rule, fault.reason) == ("OVERLAP", "only 0% of the words are left, the limit is 20%")
    assert changed_meaning("卡丢了怎么办", "银行卡丢了如何是好", min_overlap=0.2) is None


TEXTS = st.text(alphabet=st.characters(codec="utf-8"), max_size=60)
MIXED = st.lists(
    st.sampled_from(
        [
            "三百",
            "12.5",
            "元",
            "不",
            "别人",
            "周一",
            "<A_1>",
            "“",
            "”",
            "a-1",
            "%",
            "half",
            "one",
            " ",
            "月",
            "点",
            "百分之",
            "万",
        ]
    )
).map("".join)


@settings(max_examples=300, deadline=None)
@given(st.one_of(TEXTS, MIXED))
def test_every_text_keeps_itself(text):
    fault = changed_meaning(text, text, slots=[text])
    assert fault is None or fault.rule == "EMPTY"


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_another_number_never_passes(left, right):
    fault = changed_meaning(f"请转{left}元", f"请转{right}元", max_length_ratio=10)
    assert (fault is None) == (left == right)


DIGITS = "零一二三四五六七八九"


def spelled(number: int) -> str:
    """The usual Chinese spelling of 1..99999, written independently of the code under test."""
    units = ["", "十", "百", "千", "万"]
    text, has_gap = "", False
    for place in range(len(str(number)) - 1, -1, -1):
        digit = number // 10**place % 10
        if digit:
            text += ("零" if has_gap and text else "") + DIGITS[digit] + units[place]
            has_gap = False
        else:
            has_gap = True
    return text.removeprefix("一") if 10 <= number < 20 else text


@settings(max_examples=300, deadline=None)
@given(st.integers(2, 99999))
def test_chinese_spellings_are_read_back(number):
    assert [found.value for found in numbers(f"共{spelled(number)}条")] == [number]
