"""What the guards of the semantic cache let pass and what they refuse, pair by pair, in English and Chinese."""

from __future__ import annotations

import pytest

from tunewright.serve.cache.guards.objections import GUARDS, objections
from tunewright.serve.cache.guards.words import language

SAME = [
    ("How do I block my card?", "How can I block my card, please?"),
    ("What is the fee for 1,000 dollars?", "What's the fee for 1000 dollars"),
    ("What is the fee for three thousand dollars?", "what is the fee for 3,000 dollars?"),
    ("手续费是5%吗？", "手续费是百分之五吗"),
    ("三张卡的年费是多少", "3张卡的年费是多少？"),
    ("３张卡的年费是多少", "三张卡的年费是多少？"),
    ("What is due on 2024-01-02?", "What is due on 2 Jan 2024?"),
    ("What is due on Jan 2, 2024?", "what's due on the 2nd of January 2024"),
    ("2024年1月2日的账单是多少", "2024-01-02的账单是多少？"),
    ("二〇二四年一月二日的账单是多少", "2024年1月2日的账单是多少"),
    ("Where can I meet you at 3 pm?", "where can I meet you at 15:00"),
    ("下午3点能不能转账？", "15:00能转账吗"),
    ("How do I pay with Apple Pay?", "how can i pay with apple pay"),
    ("请问怎么冻结我的卡？", "如何冻结我的卡"),
    ("能不能提前还款？", "可以提前还款吗？"),
    ("Why can't I transfer money?", "why can I not transfer money"),
    ("为什么没有到账？", "请问为什么没到账"),
    ("《合同法》是什么", "请问《合同法》是什么？"),
    ("How do I get my money back?", "What is the way to obtain a refund?"),
    ("我昨天的转账为什么没到", "昨日我的转账为何没到？"),
    ("我能不能提前还款", "我可以提前还款吗"),
    ("Can I send a 10% deposit to Bob?", "can I send a 10 per cent deposit to bob"),
    ("What is due in May?", "what's due in may"),
    ("What will the 5 kg parcel cost?", "what will the 5 kilogram parcel cost"),
    ("Is it open on Monday at 10:30?", "is it open on monday at 10:30 am"),
    ("手续费是一百元吗", "手续费是100块钱吗"),
    ("人民币100元能转吗", "100元可以转吗"),
]
"""Two ways to ask one thing: no guard may object."""

DIFFERENT = {
    "negation": [
        ("How do I get a card with a PIN?", "How do I get a card without a PIN?"),
        ("Can I transfer money on Sunday?", "Can I not transfer money on Sunday?"),
        ("Why was I charged?", "Why wasn't I charged?"),
        ("What happens if I pay?", "What happens if I never pay?"),
        ("Do I pay unless I cancel?", "Do I pay if I cancel?"),
        ("Is there a fee?", "Is there no fee?"),
        ("Is it not impossible to pay?", "Is it possible to pay?"),
        ("我可以提前还款吗", "我不可以提前还款吗"),
        ("为什么扣了手续费", "为什么没扣手续费"),
        ("有密码的卡怎么用", "无密码的卡怎么用"),
        ("请用这张卡付款好吗", "请别用这张卡付款好吗"),
        ("非会员怎么取款", "会员怎么取款"),
        ("转账已到账怎么办", "转账未到账怎么办"),
        ("不是不能退款吧", "能退款吧"),
        ("我还没还款怎么办", "我还款怎么办"),
        ("特别卡怎么取款", "特别卡不能取款怎么办"),
    ],
    "numbers": [
        ("What is the fee for 3 cards?", "What is the fee for 30 cards?"),
        ("Is the rate 5%?", "Is the rate 5?"),
        ("Is the limit 1,000 a day?", "Is the limit 10,000 a day?"),
        ("What do I pay for three cards?", "What do I pay for 4 cards?"),
        ("Is it -3 degrees?", "Is it 3 degrees?"),
        ("Is 5 < 6?", "Is 5 > 6?"),
        ("x > 5怎么写", "x < 5怎么写"),
        ("What is my first bill?", "What is my second bill?"),
        ("Can I send 1.5 million?", "Can I send 15 million?"),
        ("How do I get half of it?", "How do I get it?"),
        ("三张卡的年费是多少", "四张卡的年费是多少"),
        ("3张卡的年费是多少", "30张卡的年费是多少"),
        ("利率是百分之五吗", "利率是5吗"),
        ("能转3万元吗", "能转3千元吗"),
        ("第一期账单是多少", "第二期账单是多少"),
        ("能转三四万吗", "能转五六万吗"),
        ("我借了2000到哪里还", "我借了２０００００到哪里还"),
    ],
    "dates": [
        ("What is due on 2024-01-02?", "What is due on 2024-01-03?"),
        ("What is due on 2 Jan 2024?", "What is due on 2 Feb 2024?"),
        ("What is due on 03/04/2024?", "What is due on 4 March 2024?"),
        ("What did I pay yesterday?", "What did I pay today?"),
        ("What do I pay next month?", "What do I pay this month?"),
        ("Do you open on Monday?", "Do you open on Tuesday?"),
        ("Is it open at 3 pm?", "Is it open at 3 am?"),
        ("What do I pay in May?", "What do I pay in June?"),
        ("2024年1月2日的账单是多少", "2024年2月1日的账单是多少"),
        ("昨天的转账为什么没到", "今天的转账为什么没到"),
        ("上个月的账单是多少", "这个月的账单是多少"),
        ("星期一开门吗", "星期二开门吗"),
        ("下午3点开门吗", "上午3点开门吗"),
        ("去年的利息是多少", "今年的利息是多少"),
        ("三天前的转账在哪里", "三天后的转账在哪里"),
    ],
    "units": [
        ("What is the fee for 100 USD?", "What is the fee for 100 EUR?"),
        ("How do I convert euros to dollars?", "How do I convert dollars to euros?"),
        ("Can I take 5 mg?", "Can I take 5 g?"),
        ("Is it 3 days?", "Is it 3 weeks?"),
        ("Is it 30 °C?", "Is it 30 °F?"),
        ("What is the monthly fee?", "What is the annual fee?"),
        ("手续费是100元吗", "手续费是100美元吗"),
        ("能吃5毫克吗", "能吃5克吗"),
        ("要等3天吗", "要等3周吗"),
        ("年费是多少", "月费是多少"),
        ("100港币能换吗", "100日元能换吗"),
    ],
    "names": [
        ("How do I use my Visa card?", "How do I use my Mastercard?"),
        ('What does "pending" mean?', 'What does "posted" mean?'),
        ("What is the fee at Barclays?", "What is the fee at Santander?"),
        ("Can I send it to ann@a.com?", "Can I send it to bob@a.com?"),
        ("What is error E42?", "What is error E43?"),
        ("Can I send from Ann to Bob?", "Can I send from Bob to Ann?"),
        ("What is ISO 9001?", "What is IEC 9001?"),
        ("Is card 6222020200112233 mine?", "Is card 6222020200112244 mine?"),
        ("Santander fees, what are they?", "Barclays fees, what are they?"),
        ("《合同法》是什么", "《婚姻法》是什么"),
        ("“冻结”是什么意思", "“挂失”是什么意思"),
        ("怎么用Visa卡", "怎么用Mastercard卡"),
        ("什么是IBAN", "什么是BIC"),
        ("iPhone15怎么付款", "iPhone14怎么付款"),
    ],
    "question": [
        ("How do I pay?", "When do I pay?"),
        ("Who pays the fee?", "Why pay the fee?"),
        ("Where is my card?", "What is my card?"),
        ("How do I pay?", "Can I pay?"),
        ("How long does it take?", "How much does it take?"),
        ("Can I pay late?", "Did I pay late?"),
        ("怎么还款", "什么时候还款"),
        ("谁可以办卡", "哪里可以办卡"),
        ("为什么要还款", "怎么还款"),
        ("贷款多少", "贷款多久"),
        ("能还款吗", "怎么还款"),
        ("可以还款吗", "还款了吗"),
    ],
    "opposites": [
        ("How do I open an account?", "How do I close an account?"),
        ("Can I transfer to savings?", "Can I transfer from savings?"),
        ("Is it authorised?", "Is it unauthorised?"),
        ("What is the maximum?", "What is the minimum?"),
        ("Is it before the trip?", "Is it after the trip?"),
        ("How do I activate it?", "How do I deactivate it?"),
        ("怎么开通短信", "怎么关闭短信"),
        ("怎么买入基金", "怎么卖出基金"),
        ("怎么转入", "怎么转出"),
        ("最高限额是多少", "最低限额是多少"),
        ("国内手续费是多少", "国外手续费是多少"),
    ],
    "persons": [
        ("How do I block my card?", "How do I block his card?"),
        ("What is your address?", "What is my address?"),
        ("怎么冻结我的卡", "怎么冻结他的卡"),
        ("我的地址是什么", "你们的地址是什么"),
        ("Can you see me?", "Can I see you?"),
        ("我欠你钱吗", "你欠我钱吗"),
    ],
    "language": [
        ("How do I block my card?", "怎么冻结我的卡？"),
        ("Comment bloquer ma carte ?", "Comment bloquer ma carte"),
        ("Wie sperre ich meine Karte?", "Wie sperre ich die Karte?"),
        ("カードを止めたい", "カードを止めて"),
    ],
    "wording": [
        ("what is the capital of france", "what is the capital of spain"),
        ("how do i order a visa card", "how do i order a gift card"),
        ("Does the bank owe me?", "Do I owe the bank?"),
        ("How do I block my card?", "How do I block my debit card online?"),
        ("法国的首都是哪里", "西班牙的首都是哪里"),
        ("怎么给我的车投保", "怎么给我的房投保"),
        ("银行欠我钱吗", "我欠银行钱吗"),
        ("Is it up?", "Is it down?"),
        ("How do I learn the piano?", "How do I write an essay?"),
        ("怎么煮米饭？", "怎么治咳嗽？"),
        ("信用卡年费是多少", "年费是多少"),
    ],
}
"""By the guard that must object; others may object too."""

ALONE = {
    ("How do I get a card with a PIN?", "How do I get a card without a PIN?"): "negation",
    ("为什么转账没到账", "钱款为何进来"): "negation",
    ("What is the fee for 3 cards?", "What is the fee for 30 cards?"): "numbers",
    ("三张卡的年费是多少", "四张卡的年费是多少"): "numbers",
    ("What is due on 2024-01-02?", "What is due on 2024-01-03?"): "dates",
    ("2024年1月2日的账单是多少", "2024年2月1日的账单是多少"): "dates",
    ("How do I convert euros to dollars?", "How do I convert dollars to euros?"): "units",
    ("手续费是100元吗", "手续费是100美元吗"): "units",
    ('What does "at" mean?', 'What does "on" mean?'): "names",
    ("“的”是什么意思", "“了”是什么意思"): "names",
    ("How do I pay?", "When do I pay?"): "question",
    ("怎么还款", "什么时候还款"): "question",
    ("Can I transfer to savings?", "Can I transfer from savings?"): "opposites",
    ("怎么开通短信", "提醒如何关闭"): "opposites",
    ("How do I block my card?", "How do I block his card?"): "persons",
    ("我的地址是什么", "你们的地址是什么"): "persons",
    ("How do I block my card?", "怎么冻结我的卡？"): "language",
    ("カードを止めたい", "カードを止めて"): "language",
    ("what is the capital of france", "what is the capital of spain"): "wording",
    ("法国的首都是哪里", "西班牙的首都是哪里"): "wording",
}
"""Pairs that one guard alone keeps apart: without it one question would get the other's answer."""


@pytest.mark.parametrize(("asked", "kept"), SAME)
def test_two_ways_to_ask_one_thing_pass(asked: str, kept: str) -> None:
    assert objections(asked, kept) == ()
    assert objections(kept, asked) == ()


@pytest.mark.parametrize(
    ("guard", "asked", "kept"), [(guard, *pair) for guard, pairs in DIFFERENT.items() for pair in pairs]
)
def test_what_only_looks_the_same_is_refused(guard: str, asked: str, kept: str) -> None:
    assert guard in objections(asked, kept)
    assert guard in objections(kept, asked)


@pytest.mark.parametrize(("pair", "guard"), ALONE.items())
def test_each_guard_refuses_what_no_other_does(pair: tuple[str, str], guard: str) -> None:
    assert objections(*pair) == (guard,)


def test_every_guard_stands_in_the_tables() -> None:
    assert set(DIFFERENT) == set(GUARDS) == set(ALONE.values())


@pytest.mark.parametrize("asked", [pair[0] for pairs in (SAME, *DIFFERENT.values()) for pair in pairs])
def test_a_question_is_the_same_as_itself(asked: str) -> None:
    assert objections(asked, asked) == (() if language(asked) else ("language",))


def test_what_the_guards_cannot_read_is_no_language() -> None:
    assert language("How do I block it?") == "en"
    assert language("怎么用Visa卡") == "zh"
    for text in (
        "¿Cómo bloqueo mi tarjeta?",
        "Как заблокировать карту?",
        "カードを止めたい",
        "카드",
        "",
        "12 + 3",
        "blockiere",
    ):
        assert language(text) is None, text
