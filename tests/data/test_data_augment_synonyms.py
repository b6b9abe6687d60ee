"""Synonym dictionaries and replacement: strict files, word boundaries, case, the starter."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunewright.core.errors import ConfigError
from tunewright.data.augment.augmenter import Text, language_of
from tunewright.data.augment.dictionary import dictionary_path, load_dictionary
from tunewright.data.augment.options import SynonymsOptions
from tunewright.data.augment.preserve import changed_meaning
from tunewright.data.augment.synonyms import Synonyms


@pytest.fixture
def reword(tmp_path):
    """Every wording that the lines of a dictionary give for a text."""

    def run(lines, text, *, copies=20, rate=1.0, seed=1):
        (tmp_path / "words.tsv").write_text(lines, encoding="utf-8")
        options = SynonymsOptions(dictionary="words.tsv", copies=copies, rate=rate)
        return Synonyms(options, tmp_path).variants([Text(text, language_of(text), seed)])[0]

    return run


FAULTS = [
    ("zh\t尽快\n", 1, "a group needs two words or more"),
    ("# fine\n\nfr\tvite\trapide\n", 3, "starts with 'fr', not with a language tag"),
    ("zh 尽快 赶快\n", 1, "starts with 'zh 尽快 赶快', not with a language tag"),
    ("zh\t尽快\t\t赶快\n", 1, "an empty word stands between two tabs"),
    ("zh\t尽快\t 赶快\n", 1, "' 赶快' has spaces around it"),
    ("zh\t尽 快\t赶快\n", 1, "holds spaces that no text is matched with"),
    ("en\tright  now\tnow\n", 1, "holds spaces that no text is matched with"),
    ("zh\t尽快\t赶快\nzh\t赶紧\t赶快\n", 2, "'赶快' stands in a group already ("),
    ("en\thelp\tassist\nen\tHelp\taid\n", 2, "'Help' stands in a group already ("),
    ("zh\t尽快\t尽快\n", 1, "'尽快' stands in a group already ("),
    ("zh\t可以\t不可以\n", 1, "do not say the same: 0 negation(s) became 1"),
    ("zh\t两个\t三个\n", 1, "do not say the same: number 两 became 三"),
    ("en\tcafe\u0301\tbar\n", 1, "is not in the composed form NFC"),
    ("!zh\n", 1, "no word stands behind the tag"),
]


@pytest.mark.parametrize(("lines", "number", "problem"), FAULTS, ids=[problem for *_, problem in FAULTS])
def test_a_fault_names_its_line(reword, lines, number, problem):
    with pytest.raises(ConfigError) as caught:
        reword(lines, "x")
    assert problem in str(caught.value)
    assert caught.value.where.endswith(f"words.tsv:{number}")


def test_a_missing_or_unreadable_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no\.tsv: there is no such dictionary"):
        load_dictionary(["no.tsv"], tmp_path)
    (tmp_path / "gbk.tsv").write_bytes("zh\t尽快\t赶快".encode("gbk"))
    with pytest.raises(ConfigError, match=r"not UTF-8 \(byte 3\)"):
        load_dictionary(["gbk.tsv"], tmp_path)


def test_a_file_of_windows_is_read(tmp_path):
    (tmp_path / "w.tsv").write_bytes("\ufeff# x\r\nzh\t尽快\t赶快\r\n".encode())
    assert load_dictionary(["w.tsv"], tmp_path)["zh"].others == {"尽快": ("赶快",), "赶快": ("尽快",)}


def test_two_files_are_one_dictionary_and_must_not_clash(tmp_path):
    (tmp_path / "mine.tsv").write_text("zh\t保单\t保险单\n!zh\t尽快\n", encoding="utf-8")
    both = load_dictionary(["builtin", "mine.tsv"], tmp_path)["zh"]
    assert both.others["保单"] == ("保险单",)
    assert both.protected >= {"尽快"}
    (tmp_path / "mine.tsv").write_text("zh\t尽快\t速速\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"'尽快' stands in a group already \(builtin:\d+\)"):
        load_dictionary(["builtin", "mine.tsv"], tmp_path)


def test_chinese_takes_the_longest_word(reword):
    lines = "zh\t怎么办\t咋办\nzh\t怎么办理\t如何办理\n"
    assert reword(lines, "丢了怎么办理") == ["丢了如何办理"]
    assert reword(lines, "丢了怎么办") == ["丢了咋办"]


def test_chinese_words_are_not_cut(reword):
    assert reword("zh\t办理\t申办\n!zh\t理财\n", "找人代办理财业务") == [], "代办|理财, not 代|办理|财"
    assert reword("zh\t办理\t申办\n!zh\t理财\n", "在此办理理财业务") == ["在此申办理财业务"]
    assert reword("zh\t查一下\t查查\n!zh\t检查\n", "检查一下机器") == []
    assert reword("zh\t尽快\t赶快\n!zh\t尽快递\n", "尽快递送") == []


def test_english_takes_whole_words_and_keeps_case(reword):
    lines = "en\thelp\tassist\nen\tlog in\tsign in\nen\tATM\tcash machine\n"
    assert reword(lines, "helpful helper's self-help") == []
    assert reword(lines, "Help! help HELP") == ["Assist! assist ASSIST"]
    assert reword(lines, "I can't log in") == ["I can't sign in"]
    assert reword(lines, "log\nin and log  in") == [], "a phrase's words are parted by one space"
    assert reword(lines, "the ATM is off. ATM off") == ["the cash machine is off. Cash machine off"]


def test_english_articles_stay_right(reword):
    lines = "en\todd\tstrange\tunusual\n"
    assert set(reword(lines, "an odd call")) == {"an unusual call"}
    assert set(reword(lines, "odd, very odd")) == {
        f"{a}, very {b}" for a in ("strange", "unusual") for b in ("strange", "unusual")
    }
    assert reword(lines, "a strange call") == []


def test_typographic_apostrophes_match(reword):
    assert reword("en\tdon't\tdo not\n", "I don’t know") == ["I do not know"]


def test_the_rate_limits_the_places_and_one_always_changes(reword):
    lines = "zh\t尽快\t赶快\n"
    text = "尽快，" * 40
    changed = reword(lines, text, copies=1, rate=0.25)[0].count("赶快")
    assert 3 <= changed <= 18, "a quarter of 40, drawn"
    assert reword(lines, text, copies=1, rate=1.0)[0].count("赶快") == 40
    assert reword(lines, text, copies=1, rate=0.0001)[0].count("赶快") == 1


def test_copies_differ_and_depend_on_the_seed_alone(reword):
    lines = "zh\t尽快\t赶快\t赶紧\nzh\t哪里\t哪儿\n"
    text = "请尽快告诉我在哪里"
    all_of_them = reword(lines, text, rate=0.5)
    assert set(all_of_them) == {f"请{a}告诉我在{b}" for a in ("尽快", "赶快", "赶紧") for b in ("哪里", "哪儿")} - {
        text
    }
    assert len(all_of_them) == len(set(all_of_them))
    assert reword(lines, text, copies=2, seed=5) == reword(lines, text, copies=2, seed=5)
    assert len({tuple(reword(lines, text, copies=1, seed=seed)) for seed in range(20)}) > 1


def test_other_languages_are_left_alone(reword):
    assert reword("en\tam\tbin\n", "я am дома") == []
    assert language_of("¿?12") == ""


@pytest.fixture(scope="module")
def starter():
    return load_dictionary(["builtin"], Path())


def test_the_starter_has_enough_groups_of_single_use_words(starter):
    for language, letters in (("zh", 2), ("en", 2)):
        vocabulary = starter[language]
        groups = {frozenset([vocabulary.written[word], *others]) for word, others in vocabulary.others.items()}
        assert len(groups) >= 150
        assert all(len(word) >= letters for group in groups for word in group)
        assert not vocabulary.protected & vocabulary.others.keys(), "a protected word would never be replaced"
        assert all(language_of(word) in (language, "en") for word in vocabulary.others)


def test_the_starter_keeps_what_the_checks_ask(starter):
    """Any word of a group in the place of any other, inside a sentence, passes."""
    for language, frame in (("zh", "您说{}，是3元。"), ("en", "You said {} for $3.")):
        for word, others in starter[language].others.items():
            for other in others:
                assert changed_meaning(frame.format(word), frame.format(other)) is None, (word, other)


TRAPS = [
    "怎么办公",
    "检查一下",
    "考试试卷",
    "我国外汇",
    "提高警惕",
    "被盗刷了",
    "千万别",
    "对不对",
    "有没有点心",
    "快好多了",
    "上网上课",
]


@pytest.mark.parametrize("text", TRAPS)
def test_the_starter_leaves_longer_words_alone(text):
    assert Synonyms(SynonymsOptions(copies=5, rate=1), Path()).variants([Text(text, "zh", 3)]) == [[]]


ENGLISH_TRAPS = ["Why don't you ask?", "many thanks", "how often", "I lost my job", "an odd number", "tell me about it"]


@pytest.mark.parametrize("text", ENGLISH_TRAPS)
def test_the_starter_leaves_english_idioms_alone(text):
    assert Synonyms(SynonymsOptions(copies=5, rate=1), Path()).variants([Text(text, "en", 3)]) == [[]]


def test_the_starter_lies_in_the_package():
    assert dictionary_path("builtin", Path("/elsewhere")).is_file()
