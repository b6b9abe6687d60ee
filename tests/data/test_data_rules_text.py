from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.core.chat import Message
from tunewright.data.draft import Draft
from tunewright.data.rules import text as rule_module
from tunewright.data.rules.options import TextOptions
from tunewright.data.rules.text import Text, clean, flatten, is_visible


@pytest.mark.parametrize(
    ("text", "cleaned", "codes"),
    [
        ("，。！？“”：； 37.5% ￥1,200 <b>&nbsp;</b>", None, []),
        ("e\u0301", "é", ["NFC"]),
        ("a\x00b\x1b[0m\tc\nd", "ab[0m\tc\nd", ["CONTROL"]),
        ("a\r\nb\rc", "a\nb\nc", ["CONTROL"]),
        ("a\u200bb\ufeffc\u2060d\u202ee\u00adf", "abcdef", ["ZERO_WIDTH"]),
        ("余\u200d额", "余额", ["ZERO_WIDTH"]),
        ("👨\u200d👩\u200d👧 ❤\ufe0f\u200d🔥 👩🏽\u200d⚕\ufe0f 🏳\ufe0f\u200d🌈", None, []),
        ("a\u200d👧", "a👧", ["ZERO_WIDTH"]),
        ("می\u200cخواهم", None, []),
        ("क\u094d\u200dष", None, []),
        ("🏴\U000e0067\U000e0062\U000e007f", None, []),
        ("hi\U000e0068\U000e0069", "hi", ["ZERO_WIDTH"]),
        ("ＡＢＣ１２３", None, ["FULLWIDTH"]),
        ("lost \ufffd", None, ["REPLACEMENT"]),
        ("\ufeff余\u200e额\u202b查\u2066询\u2069\u200f", "余额查询", ["ZERO_WIDTH"]),
        ("余\u200c额 in\u200cside", "余额 inside", ["ZERO_WIDTH"]),
        ("好\ufe0f\ufe0e的", "好的", ["ZERO_WIDTH"]),
        ("\u3164空\u2063白\u034f", "空白", ["ZERO_WIDTH"]),
        ("1\ufe0f\u20e3 ☎\ufe0f ©\ufe0f 👍🏽 🏴\u200d☠\ufe0f 🧑\u200d🤝\u200d🧑 👁\ufe0f\u200d🗨\ufe0f", None, []),
        ("👨\u200d 👩\u200d", "👨 👩", ["ZERO_WIDTH"]),
        ("葛\U000e0100城", None, []),
        ("한국어 ไทย ქართული עברית", None, []),
        ("1\u1100\u1161", "1가", ["NFC"]),
        ("か\u3099", "が", ["NFC"]),
        ("\u212b \u2126", "Å Ω", ["NFC"]),
        ("卡号６２２２０２１２３４５６７８９０，密码ＡＢＣ", None, ["FULLWIDTH"]),
        ("，：；？！（）％＋－＝", None, []),
    ],
)
def test_text(text, cleaned, codes):
    found = clean(text)
    assert found.text == (text if cleaned is None else cleaned)
    assert [note.code for note in found.notes] == codes
    assert clean(found.text).text == found.text


def test_text_full_of_invisible_characters_is_cleaned_in_linear_time():
    assert clean("a\u200b" * 200_000).text == "a" * 200_000


def _plain_characters():
    codes = (code for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000)
    return [chr(code) for code in codes if not rule_module._OTHER.search(chr(code))]


def test_characters_that_skip_the_repair_need_none():
    """The fast way may only take texts that the slow way leaves alone, in any order of their characters."""
    plain = _plain_characters()
    assert len(plain) > 30_000
    joined = "".join(plain)
    assert unicodedata.is_normalized("NFC", joined)
    assert not [
        letter for letter in plain if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Cn") and letter not in "\t\n"
    ]
    assert not rule_module._CONTROL.search(joined)
    assert not rule_module._INVISIBLE.search(joined)
    assert not rule_module._FULLWIDTH.search(joined)
    whole = map(chr, (code for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000))
    decomposed = [unicodedata.normalize("NFD", letter) for letter in whole]
    second = {part for parts in decomposed if unicodedata.is_normalized("NFC", parts) is False for part in parts[1:]}
    assert not second & set(plain), "a character that joins the one before it"


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(max_size=40))
def test_cleaning_is_final_composed_and_removes_only_what_it_says(text):
    found = clean(text)
    assert clean(found.text).text == found.text
    assert unicodedata.is_normalized("NFC", found.text)
    assert not rule_module._CONTROL.search(found.text)
    if not {"NFC", "CONTROL", "ZERO_WIDTH"} & {note.code for note in found.notes}:
        assert found.text == text
    visible = [letter for letter in unicodedata.normalize("NFC", text) if is_visible(letter)]
    assert [c for c in unicodedata.normalize("NFC", found.text) if is_visible(c)] == visible


def test_findings_say_what_and_where():
    draft = Draft(
        (
            Message(role="user", content="x" * 60 + "余\u200b额\u200d查\ufeff询"),
            Message(role="assistant", content="a\r\n\x00"),
        ),
        {},
    )
    notes = Text(TextOptions()).apply(draft).notes
    assert [(note.code, note.action, note.reason) for note in notes] == [
        ("ZERO_WIDTH", "repaired", "turn 1: 3 zero-width or bidi character(s) removed"),
        ("CONTROL", "repaired", "turn 2: 1 control character(s) removed, 1 carriage return(s) became line feeds"),
    ]
    assert "余\u200b额" in notes[0].excerpt


def test_a_clean_turn_is_not_touched():
    draft = Draft(
        (Message(role="user", content="您好，“余额”是37.5%吗？<b>x</b>"), Message(role="assistant", content=None)), {}
    )
    assert Text(TextOptions()).apply(draft) is draft


@pytest.mark.parametrize(
    ("text", "flat"),
    [
        ("37.5", "375"),
        ("-5%", "5"),
        ("3/4", "34"),
        ("C++", "c"),
        ("<b>a</b>", "bab"),
        ("您好，请问 余额？\n谢谢！", "您好请问 余额 谢谢"),
        ("Hello,   World!", "hello world"),
        ("snake_case 卡", "snake_case 卡"),
    ],
)
def test_aggressive_destroys_what_its_page_says(text, flat):
    assert flatten(text) == flat
    assert clean(text).text == text


def test_aggressive_is_said_and_off_by_default():
    draft = Draft(
        (Message(role="user", content="利率是37.5%吗？\u200b"), Message(role="assistant", content="是的")), {}
    )
    done = Text(TextOptions(preset="aggressive")).apply(draft)
    assert [turn.content for turn in done.turns] == ["利率是375吗", "是的"]
    assert [(note.code, note.action, note.reason) for note in done.notes] == [
        ("ZERO_WIDTH", "repaired", "turn 1: 1 zero-width or bidi character(s) removed"),
        ("AGGRESSIVE", "repaired", "turn 1: aggressive preset: 3 sign(s) deleted, blanks joined, lower-cased"),
    ]
    assert TextOptions().preset == "standard"


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("", False),
        (" \n\u3000", False),
        ("\u200b\ufeff\x00", False),
        ("\u3164", False),
        ("。", True),
        ("\u200ba", True),
    ],
)
def test_visible(text, seen):
    assert is_visible(text) is seen
