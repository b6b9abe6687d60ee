from __future__ import annotations

import random
import sys
import unicodedata

import pytest

from tunewright.core.text.fold import fold
from tunewright.core.text.numbers import is_bank_card, is_id_card, is_luhn
from tunewright.core.text.pii import KINDS, Span, find_pii, mask
from tunewright.core.text.spans import placeholder

# Well-known published samples: GB 11643 (11010519491231002X), the schemes' test card numbers, RFC 5737/3849 addresses.
FOUND = [
    ("电话13812345678转", "phone", "13812345678"),
    ("tel13812345678x", "phone", "13812345678"),
    ("电话１３８１２３４５６７８转", "phone", "１３８１２３４５６７８"),
    ("138-1234-5678", "phone", "138-1234-5678"),
    ("138 1234 5678", "phone", "138 1234 5678"),
    ("138　1234　5678。", "phone", "138　1234　5678"),
    ("1381-234-5678", "phone", "1381-234-5678"),
    ("+8613812345678", "phone", "+8613812345678"),
    ("(+86)138 1234 5678", "phone", "(+86)138 1234 5678"),
    ("8613812345678", "phone", "8613812345678"),
    ("0086-13812345678", "phone", "0086-13812345678"),
    ("1.13812345678", "phone", "13812345678"),
    ("余额0.5元，13812345678", "phone", "13812345678"),
    ("拨010-62345678咨询", "phone", "010-62345678"),
    ("(021)62345678", "phone", "(021)62345678"),
    ("（0571）87654321", "phone", "（0571）87654321"),
    ("0641-23456789", "phone", "0641-23456789"),
    ("05718765432转8001", "phone", "05718765432"),
    ("call +442079460958now", "phone", "+442079460958"),
    ("+1 (415) 555-2671", "phone", "+1 (415) 555-2671"),
    ("+44 20 7946 0958", "phone", "+44 20 7946 0958"),
    ("+65 6123 4567", "phone", "+65 6123 4567"),
    ("１３８\u200b１２３４５６７８", "phone", "１３８\u200b１２３４５６７８"),
    ("身份证11010519491231002X。", "id_card", "11010519491231002X"),
    ("身份证11010519491231002x号", "id_card", "11010519491231002x"),
    ("１１０１０５１９４９１２３１００２Ｘ", "id_card", "１１０１０５１９４９１２３１００２Ｘ"),
    ("110105 19491231 002X", "id_card", "110105 19491231 002X"),
    ("老证130503670401001号", "id_card", "130503670401001"),
    ("卡4111111111111111元", "bank_card", "4111111111111111"),
    ("4111 1111 1111 1111", "bank_card", "4111 1111 1111 1111"),
    ("4111-1111-1111-1111", "bank_card", "4111-1111-1111-1111"),
    ("4111 1111 1111 1111 123", "bank_card", "4111 1111 1111 1111"),
    ("378282246310005", "bank_card", "378282246310005"),
    ("3782 822463 10005", "bank_card", "3782 822463 10005"),
    ("30569309025904", "bank_card", "30569309025904"),
    ("4222222222222", "bank_card", "4222222222222"),
    ("５５５５５５５５５５５５４４４４", "bank_card", "５５５５５５５５５５５５４４４４"),
    ("邮箱zhang.san@qq.com谢谢", "email", "zhang.san@qq.com"),
    ("ｚｈａｎｇ＠ｑｑ．ｃｏｍ", "email", "ｚｈａｎｇ＠ｑｑ．ｃｏｍ"),
    ("zhang＠qq.com", "email", "zhang＠qq.com"),
    ("１２３zhang@qq.com４５６", "email", "zhang@qq.com"),
    ("13812345678@163.com", "email", "13812345678@163.com"),
    ("<a_b+c@mail.example.com.cn>", "email", "a_b+c@mail.example.com.cn"),
    ("IP是192.0.2.10的", "ip", "192.0.2.10"),
    ("server 10.0.0.1:8080", "ip", "10.0.0.1"),
    ("１９２．０．２．１０", "ip", "１９２．０．２．１０"),
    ("ip:2001:db8::1,", "ip", "2001:db8::1"),
    ("2001:0db8:85a3:0000:0000:8a2e:0370:7334。", "ip", "2001:0db8:85a3:0000:0000:8a2e:0370:7334"),
    ("fe80::1%eth0", "ip", "fe80::1"),
]
NOTHING = [
    "",
    "订单号2023010112345678",
    "1381234567",  # one digit short
    "138123456789",  # one too long
    "12812345678",  # no mobile prefix
    "0.13812345678",
    "3.14159265358",
    "1672531200000",  # milliseconds
    "15 20 25 30 35 4",
    "6000-600-150-1200-2000=2050",
    "100+20000000=20000100",
    "11010519491231002",  # no check digit
    "110105194912310021",  # wrong check digit
    "11010519491331002X",  # month 13
    "211010519491231002X",  # a digit before
    "11010519491231002X3",  # a digit behind
    "130503670231001",  # 31 February
    "990503670401001",  # no such province
    "4111111111111112",  # Luhn
    "1111111111111117",  # no issuer
    "4111-1111-1111-1111-1111",
    "1234-4111-1111-1111-1111",
    "0.4111111111111111",
    "a@b",
    "@qq.com",
    "zhang@",
    "张三@李四",
    "发到@qq.com",
    "064123456789",  # no area code 0641
    "1.2.3",
    "版本号：1.2.3.4",
    "v1.2.3.4",
    "version 10.0.2.3",
    "firefox2.0.0.10",
    "2.0.0.10+1",
    "256.1.1.1",
    "1.2.3.4.5",
    "12:30:45",
    "00:1A:2B:3C:4D:5E",
    "a[1::2]",
    "std::add",
    "face::add",
    "①②③ 第1章 1,000,000.50元",
]


@pytest.mark.parametrize(("text", "kind", "found"), FOUND)
def test_found(text, kind, found):
    spans = find_pii(text)
    assert [(span.kind, text[span.start : span.end]) for span in spans] == [(kind, found)]
    assert mask(text, spans) == text.replace(found, f"<{kind.upper()}>")


@pytest.mark.parametrize("text", NOTHING)
def test_near_misses(text):
    assert find_pii(text) == []


def test_several_kinds_in_order_and_by_choice():
    text = "卡4111111111111111电话１３８１２３４５６７８zhang@qq.com，身份证11010519491231002X，010-62345678"
    assert mask(text, find_pii(text)) == "卡<BANK_CARD>电话<PHONE><EMAIL>，身份证<ID_CARD>，<PHONE>"
    assert mask(text, find_pii(text, ["email"])) == text.replace("zhang@qq.com", "<EMAIL>")
    assert find_pii(text, []) == []
    assert set(KINDS) == {"phone", "id_card", "bank_card", "email", "ip"}


def test_escapes_of_a_json_text_belong_to_no_number_and_no_address():
    text = '{"a": "\\u753513812345678", "b": "\\nzhang@qq.com"}'
    assert mask(text, find_pii(text)) == '{"a": "\\u7535<PHONE>", "b": "\\n<EMAIL>"}'


def test_luhn_and_identity_check_digits():
    assert is_luhn("79927398713")  # the example of the Luhn algorithm's description
    assert [digit for digit in "0123456789" if is_luhn("7992739871" + digit)] == ["3"]
    assert [sign for sign in "0123456789X" if is_id_card("11010519491231002" + sign)] == ["X"]
    assert not is_bank_card("62" * 10)


def test_an_identity_number_is_no_card():
    """Provinces 62 to 65 and 34, 37 begin as cards do."""
    numbers = [f"62010219900307{serial:03d}" for serial in range(1000)]
    weights = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2]
    for number in numbers:
        whole = number + "10X98765432"[sum(w * int(d) for w, d in zip(weights, number, strict=True)) % 11]
        assert [span.kind for span in find_pii(whole)] == ["id_card"]
        assert find_pii(whole, ["bank_card"]) == []


def test_no_bank_card_in_order_numbers_of_other_lengths():
    draw = random.Random(11)
    for _ in range(10_000):
        length = draw.choice([*range(5, 13), *range(20, 33)])
        number = "".join(draw.choices("0123456789", k=length))
        shown = draw.choice([number, f"订单{number}号", f"NO-{number}", number.translate(_WIDE)])
        assert not [span for span in find_pii(shown) if span.kind == "bank_card"], shown


def test_few_random_numbers_of_card_length_are_cards():
    """Luhn lets 10 % pass; known issuers and their lengths leave 2 %."""
    draw = random.Random(12)
    numbers = ["".join(draw.choices("0123456789", k=draw.randint(13, 19))) for _ in range(10_000)]
    hits = sum(any(span.kind == "bank_card" for span in find_pii(number)) for number in numbers)
    assert 0 < hits <= 200


def test_masking_needs_spans_apart():
    assert mask("abc", [Span("x", 1, 2)], label=lambda span, original: original.upper()) == "aBc"
    assert placeholder(Span("id_card", 0, 1), "x") == "<ID_CARD>"
    with pytest.raises(AssertionError):
        mask("abc", [Span("x", 0, 2), Span("x", 1, 3)])


def test_long_texts_take_linear_time():
    """A quadratic scan of these 200,000 characters would take minutes."""
    for unit in ("1", "12 ", "4111 ", "a@", "a.", "1.", "138-", "+1 ", ":a", "（0", "{"):
        find_pii(unit * (200_000 // len(unit)))


_WIDE = str.maketrans("0123456789", "０１２３４５６７８９")


def test_digits_of_every_script_are_folded() -> None:
    """The table is made from the first two planes; no later one has a decimal digit in this Python's Unicode."""
    digits = [chr(code) for code in range(sys.maxunicode + 1) if chr(code).isdecimal()]
    assert len(digits) >= 650
    assert fold("".join(digits)).text == "".join(str(unicodedata.decimal(digit)) for digit in digits)
