from __future__ import annotations

import pytest

from tunewright.core.chat import Message
from tunewright.data.draft import Draft
from tunewright.data.rules.domain import Domain
from tunewright.data.rules.language import Language, count_letters
from tunewright.data.rules.options import DomainOptions, LanguageOptions


def draft(*texts, metadata=None):
    roles = ["user", "assistant"] * len(texts)
    turns = [Message(role=role, content=text) for role, text in zip(roles, texts, strict=False)]
    return Draft(tuple(turns), metadata or {})


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("", {}),
        ("123 ，。😀", {}),
        ("Hello, world 42", {"en": 10}),
        ("余额37.5元", {"zh": 3}),
        ("用APP查ＶＩＰ余额", {"zh": 4, "en": 6}),
        ("café naïve", {"en": 9}),
        ("```python\nprint(1)\n``` 好 `code` https://a.cn/b 行", {"zh": 2}),
        ("```never closed", {}),
        ("これは日本語です", {"ja": 8}),
        ("优の良品很好吃又便宜大家都喜欢", {"zh": 14, "ja": 1}),
        ("한국어", {"ko": 3}),
        ("Привет мир", {"ru": 9}),
        ("สวัสดี ok", {"en": 2, "other": 4}),
        ("𠮷野家", {"zh": 3}),
    ],
)
def test_letters_by_language(text, counts):
    assert count_letters(text) == counts


def test_share_and_reason():
    rule = Language(LanguageOptions(languages=("zh",)))
    done = rule.apply(draft("abcdef", "一二三四"))
    (note,) = done.notes
    assert (note.code, note.action) == ("LANGUAGE", "kept")
    assert note.reason == "40% of 10 letters are zh, at least 70% wanted (found: en 60%, zh 40%)"
    assert done.tallies == {"language.en": 1}
    rejected = Language(LanguageOptions(languages=("zh",), action="quarantine")).apply(draft("abcdef", "一二三四"))
    assert (rejected.code, rejected.reason) == (note.code, note.reason)


@pytest.mark.parametrize(
    ("options", "texts", "reported", "dominant"),
    [
        ({}, ("hello", "你好"), False, "en"),
        ({}, ("привет", "да"), True, "ru"),
        ({"languages": ("zh",)}, ("一二三四五六七abc", ""), False, "zh"),
        ({"languages": ("zh",)}, ("一二三四五六abcd", ""), True, "zh"),
        ({"languages": ("zh",), "min_share": 0.3}, ("一二三abcdefg", ""), False, "en"),
        ({"languages": ("zh",)}, ("123", "4.5%"), False, "none"),
        ({"languages": ("zh",)}, ("请改 `for x in range(10)`", "好的"), False, "zh"),
        ({"languages": ("zh",)}, ("日本語はとてもむずかしい", ""), True, "ja"),
        ({"languages": ("ja",)}, ("日本語はとてもむずかしい", ""), False, "ja"),
    ],
)
def test_language(options, texts, reported, dominant):
    done = Language(LanguageOptions(**options)).apply(draft(*texts))
    assert [note.code for note in done.notes] == ["LANGUAGE"] * reported
    assert done.tallies == {f"language.{dominant}": 1}


def test_system_and_tool_turns_do_not_decide():
    turns = (Message(role="system", content="You are helpful " * 9), Message(role="tool", content='{"status": "ok"}'))
    done = Language(LanguageOptions(languages=("zh",))).apply(
        draft("你好", "好").changed([*turns, *draft("你好", "好").turns])
    )
    assert done.notes == ()


MEDICAL = {
    "metadata": {"metadata.task": ["medical"]},
    "vocabulary": ["胃", "疼", "fever", "C++"],
    "elements": {"symptom": ["疼", "胀", "fever"], "advice": ["建议", "metadata.has_advice=yes"]},
}


def domain(**changes):
    return Domain(DomainOptions.model_validate(MEDICAL | changes))


def test_a_row_of_the_domain_with_all_it_requires():
    done = domain().apply(draft("我胃疼", "建议多喝水"))
    assert done.notes == ()
    assert done.tallies == {
        "domain.rows": 1,
        "domain.matched": 1,
        "domain.element.symptom": 1,
        "domain.element.advice": 1,
    }


def test_a_row_far_from_the_domain_is_listed_and_kept():
    done = domain().apply(draft("你好", "您好", metadata={"task": "bank"}))
    assert [(note.code, note.action, note.reason) for note in done.notes] == [
        (
            "OFF_DOMAIN",
            "kept",
            "the row is far from the domain: metadata.task=bank is none of its values, "
            "0 of 1 needed words of its vocabulary",
        ),
        ("MISSING_ELEMENT", "kept", "the row lacks what the domain requires: symptom, advice"),
    ]
    assert done.tallies == {"domain.rows": 1}


@pytest.mark.parametrize(
    ("texts", "metadata", "changes", "codes"),
    [
        (("随便", "x"), {"task": "medical"}, {}, ["MISSING_ELEMENT"]),
        (("胀", "建议"), {}, {}, ["OFF_DOMAIN"]),
        (("胃胀", "建议"), {}, {}, []),
        (("胃胀", "x"), {"has_advice": "yes"}, {}, []),
        (("胃胀", "x"), {"has_advice": "no"}, {}, ["MISSING_ELEMENT"]),
        (("FEVER!", "建议"), {}, {}, []),
        (("ｆｅｖｅｒ了", "建议"), {}, {}, []),
        (("feverish paint", "建议"), {}, {}, ["OFF_DOMAIN", "MISSING_ELEMENT"]),
        (("胃胃胃胀", "建议"), {}, {"min_words": 2}, ["OFF_DOMAIN"]),
        (("胃疼", "建议"), {}, {"min_words": 2}, []),
        (("用c++写", "建议"), {}, {}, ["MISSING_ELEMENT"]),
        (("你好", "x"), {}, {"metadata": {}, "vocabulary": []}, ["MISSING_ELEMENT"]),
    ],
)
def test_matching(texts, metadata, changes, codes):
    assert [note.code for note in domain(**changes).apply(draft(*texts, metadata=metadata)).notes] == codes


def test_the_missing_element_is_named():
    done = domain().apply(draft("胃疼", "知道了"))
    assert done.notes[0].reason == "the row lacks what the domain requires: advice"
    assert done.tallies["domain.element.symptom"] == 1


def test_system_turns_do_not_put_a_row_into_the_domain():
    turns = (Message(role="system", content="回答胃疼的问题，给出建议"), *draft("你好", "您好").turns)
    assert "domain.matched" not in domain().apply(Draft(turns, {})).tallies


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "needs metadata, vocabulary or elements"),
        ({"vocabulary": ["a", " "]}, "an empty word"),
        ({"elements": {"x": []}}, "an empty list"),
        ({"vocabulary": ["a"], "min_words": 2}, "min_words is 2, but the vocabulary has 1 words"),
    ],
)
def test_options_that_cannot_work_are_refused(options, problem):
    with pytest.raises(ValueError, match=problem):
        DomainOptions(**options)
