"""Whole conversations: which turns change, what variants are called, what is dropped and why, and that it repeats."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from tunewright.core.chat import Conversation, Message
from tunewright.core.errors import ConfigError
from tunewright.core.registry import Entry
from tunewright.data.augment import engine
from tunewright.data.augment.augmenter import Augmenter
from tunewright.data.augment.engine import Dropped, Variant, augment, input_files, summary
from tunewright.data.augment.options import (
    TRANSLATORS,
    AugmenterOptions,
    BackTranslationOptions,
    HuggingFaceOptions,
    ParaphraseOptions,
    SynonymsOptions,
)
from tunewright.data.augment.registry import AUGMENTERS
from tunewright.data.augment.translators import Translator
from tunewright.data.splits.assign import question_digest


def row(*contents, id="r1", roles=("user", "assistant"), **metadata):
    turns = [Message(role=roles[i % len(roles)], content=text) for i, text in enumerate(contents)]
    return Conversation(id=id, messages=tuple(turns), metadata=metadata)


class Scripted(AugmenterOptions):
    """Options of the augmenter that answers from a table, for these tests."""

    name: str = "scripted"
    table: dict[str, list[str]] = {}


class FromTable:
    """Answers from its table; `asked` collects the batches of texts of all instances."""

    asked: list[list] = []

    def __init__(self, options, root):
        self._table = options.table

    def variants(self, texts):
        self.asked.append(list(texts))
        return [list(self._table.get(text.content, ())) for text in texts]


@pytest.fixture
def run(monkeypatch, tmp_path):
    """`augment` as a list, with the augmenter `scripted` beside the registered ones."""
    FromTable.asked.clear()
    entry = Entry(f"{__name__}:FromTable", f"{__name__}:Scripted")
    monkeypatch.setitem(AUGMENTERS.entries, "scripted", entry)
    target = AUGMENTERS.target
    monkeypatch.setattr(AUGMENTERS, "target", lambda name: FromTable if name == "scripted" else target(name))
    return lambda rows, *chosen, seed=7, **more: list(augment(rows, chosen, seed=seed, root=tmp_path, **more))


def scripted(table, **options):
    return Scripted(table=table, **{"copies": 5, **options})


def texts_of(result):
    return [turn.content for turn in result.conversation.messages]


def test_a_variant_names_its_parent_and_leaves_it_alone(run):
    parent = row("卡丢了怎么办", "card_lost", intent="card_lost", customer="c1")
    before = parent.model_dump()
    (variant,) = run([parent], scripted({"卡丢了怎么办": ["我的卡丢了怎么办"]}))
    assert isinstance(variant, Variant)
    assert (variant.parent, variant.by, variant.n) == ("r1", "scripted", 1)
    assert variant.conversation.id == "r1+scripted1"
    assert texts_of(variant) == ["我的卡丢了怎么办", "card_lost"]
    assert variant.conversation.metadata == {
        "intent": "card_lost",
        "customer": "c1",
        "augmented": {"parent": "r1", "by": "scripted", "n": 1},
    }
    assert parent.model_dump() == before


def test_only_the_turns_of_the_roles_change(run):
    table = {"s": ["S s"], "u1": ["U u1"], "a1": ["A a1"], "u2": ["V u2"], "a2": ["B a2"]}
    parent = Conversation(
        id="r1",
        messages=(
            Message(role="system", content="s"),
            Message(role="user", content="u1"),
            Message(role="assistant", content=None, tool_calls=({"function": {"name": "f", "arguments": "{}"}},)),
            Message(role="tool", content="u1"),
            Message(role="assistant", content="a1", train=False),
            Message(role="user", content="u2"),
            Message(role="assistant", content="a2"),
        ),
    )
    free = {"min_overlap": 0.0, "max_length_ratio": 10}
    (variant,) = run([parent], scripted(table, **free))
    assert texts_of(variant) == ["s", "U u1", None, "u1", "a1", "V u2", "a2"]
    assert variant.conversation.messages[4].train is False
    (variant,) = run([parent], scripted(table, roles=("assistant",), **free))
    assert texts_of(variant) == ["s", "u1", None, "u1", "A a1", "u2", "B a2"]
    (variant,) = run([parent], scripted(table, roles=("system", "user"), **free))
    assert texts_of(variant) == ["S s", "U u1", None, "u1", "a1", "V u2", "a2"]


def test_the_nth_variant_takes_the_nth_wording_of_each_turn(run):
    parent = row("hello card", "a", "bye card", "b")
    table = {"hello card": ["hi card", "hey card"], "bye card": ["goodbye card"]}
    first, second = run([parent], scripted(table))
    assert texts_of(first) == ["hi card", "a", "goodbye card", "b"]
    assert texts_of(second) == ["hey card", "a", "bye card", "b"]
    assert [first.conversation.id, second.conversation.id] == ["r1+scripted1", "r1+scripted2"]
    assert len(run([parent], scripted(table, copies=1))) == 1


def test_what_breaks_a_check_is_dropped_with_turn_and_reason(run):
    table = {"体温37.5度": ["体温375度", "体温37.5度呢", "发烧到37.5度"]}
    results = run([row("你好", "您好", "体温37.5度", "a")], scripted(table))
    assert results[0] == Dropped("r1", "scripted", "NUMBER", "turn 3: number 37.5 became 375")
    assert [result.conversation.id for result in results[1:]] == ["r1+scripted1", "r1+scripted2"]


def test_repeats_are_dropped_within_a_row_and_between_augmenters(run):
    table = {"卡丢了": ["卡丢了", "卡丢失了", "卡丢失了"]}
    results = run([row("卡丢了", "a")], scripted(table), scripted({"卡丢了": ["卡丢失了", "卡弄丢了"]}))
    kinds = [(type(result).__name__, getattr(result, "rule", getattr(result, "n", 0))) for result in results]
    assert kinds == [
        ("Dropped", "REPEATED"),
        ("Variant", 1),
        ("Dropped", "REPEATED"),
        ("Dropped", "REPEATED"),
        ("Variant", 2),
    ]
    assert results[-1].conversation.id == "r1+scripted2", "numbers go on where one augmenter is chosen twice"


def test_repeats_of_another_row_are_dropped(run):
    rows = [row("卡丢了", "a", id="r1"), row("卡掉了", "b", id="r2")]
    results = run(rows, scripted({"卡丢了": ["卡丢掉了"], "卡掉了": ["卡丢掉了"]}))
    assert isinstance(results[0], Variant)
    assert results[1] == Dropped(
        "r2", "scripted", "REPEATED", "r2+scripted1 says what a variant of another row says"
    ), "the same question with another answer would contradict"


def test_a_variant_never_asks_what_another_row_asks(run):
    parent, test_row = row("卡丢了", "a"), row("银行卡丢了", "a", id="test:9")
    own = question_digest(parent)
    chosen = scripted({"卡丢了": ["银行卡丢了", "卡丢失了"]})
    dropped, variant = run([parent], chosen, asked={own, question_digest(test_row)})
    assert dropped == Dropped("r1", "scripted", "ASKED", "r1+scripted1 asks what another row asks")
    assert texts_of(variant)[0] == "卡丢失了"


def test_a_changed_answer_keeps_its_own_question(run):
    parent = row("卡丢了", "请先挂失卡")
    (variant,) = run(
        [parent], scripted({"请先挂失卡": ["请先把卡挂失"]}, roles=("assistant",)), asked={question_digest(parent)}
    )
    assert texts_of(variant) == ["卡丢了", "请先把卡挂失"]


def test_a_row_without_a_wording_says_so(run):
    assert run([row("卡丢了", "a")], scripted({})) == [
        Dropped("r1", "scripted", "NO_VARIANT", "scripted found nothing to reword")
    ]


def test_slots_and_arguments_of_tool_calls_survive(run):
    call = {"type": "function", "function": {"name": "book", "arguments": json.dumps({"hotel": {"name": "如家"}})}}
    parent = Conversation(
        id="r1",
        messages=(
            Message(role="user", content="订如家，住到东湖"),
            Message(role="assistant", content=None, tool_calls=(call,)),
        ),
        metadata={"slot_values": {"area": ["东湖"]}},
    )
    table = {"订如家，住到东湖": ["订酒店，住到东湖", "订如家，住到西湖"]}
    dropped, variant = run([parent], scripted(table))
    assert dropped == Dropped("r1", "scripted", "SLOT", "turn 1: slot value 如家 is lost")
    assert isinstance(variant, Variant)
    results = run([parent], scripted(table, slots=("metadata.slot_values",)))
    assert [result.reason for result in results] == [
        "turn 1: slot value 如家 is lost",
        "turn 1: slot value 东湖 is lost",
    ]


def rows_of(count):
    return [row(f"请尽快告诉我在哪里办理第{i}项", "ok", id=f"r{i}") for i in range(count)]


def test_the_share_is_drawn_by_content(run):
    rows, options = rows_of(400), SynonymsOptions(share=0.25)
    chosen = {result.parent for result in run(rows, options)}
    assert 70 <= len(chosen) <= 130, "a quarter of 400"
    assert {result.parent for result in run(rows[100:], options)} == {
        parent for parent in chosen if int(parent[1:]) >= 100
    }, "other rows do not change the draw"
    assert {result.parent for result in run(rows, options, seed=8)} != chosen


def test_same_input_same_variants_whatever_the_batches(run, monkeypatch):
    rows, options = rows_of(50), SynonymsOptions(copies=3)
    expected = run(rows, options)
    assert len(expected) == 150
    assert run(rows, options) == expected
    monkeypatch.setattr(engine, "BATCH_ROWS", 7)
    assert run(rows, options) == expected
    assert run(iter(rows), options) == expected
    assert run(rows, options, seed=8) != expected


def test_variants_of_one_wording_do_not_depend_on_the_row(run):
    """The seed comes from the content: the same sentence is reworded the same way in every row."""
    left, right = run([row("尽快去哪里", "a", id="x"), row("尽快去哪里", "b", id="y", k=1)], SynonymsOptions())
    assert isinstance(left, Variant)
    assert isinstance(right, Dropped)
    assert right.rule == "REPEATED"


def test_all_texts_of_a_batch_go_in_one_call_with_their_language(run):
    run([row("卡丢了", "a", lang="ZH"), row("lost card", "b", id="r2", lang="en")], scripted({}))
    assert [[(text.content, text.language) for text in batch] for batch in FromTable.asked] == [
        [("卡丢了", "zh"), ("lost card", "en")]
    ]
    run([row("lost card", "b", lang="DE")], scripted({}, language="metadata.lang"))
    assert FromTable.asked[-1][0].language == "de"
    run([row("lost card", "b")], scripted({}, language="fr"))
    assert FromTable.asked[-1][0].language == "fr"


def test_the_summary_counts_by_augmenter_and_rule(run):
    table = {"体温37.5度": ["体温375度", "体温37度", "体温高达37.5度"]}
    results = run([row("体温37.5度", "a"), row("你好", "b", id="r2")], scripted(table), SynonymsOptions())
    assert summary(results) == {
        "scripted": {
            "variants": 1,
            "dropped": {
                "NO_VARIANT": {
                    "count": 1,
                    "example": {"parent": "r2", "reason": "scripted found nothing to reword"},
                },
                "NUMBER": {
                    "count": 2,
                    "example": {"parent": "r1", "reason": "turn 1: number 37.5 became 375"},
                },
            },
        },
        "synonyms": {
            "variants": 1,
            "dropped": {
                "NO_VARIANT": {"count": 1, "example": {"parent": "r1", "reason": "synonyms found nothing to reword"}}
            },
        },
    }


def test_input_files_name_what_decides_the_variants(tmp_path):
    (tmp_path / "w.tsv").write_text("zh\t尽快\t赶快\n", encoding="utf-8")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.safetensors").write_bytes(b"x")
    backend = HuggingFaceOptions(models={"zh-en": "m", "en-zh": "m"})
    chosen = [SynonymsOptions(dictionary="w.tsv"), BackTranslationOptions(backend=backend), ParaphraseOptions()]
    assert input_files(chosen, tmp_path) == [tmp_path / "w.tsv", tmp_path / "m" / "model.safetensors"]
    assert input_files([BackTranslationOptions()], tmp_path) == []
    with pytest.raises(ConfigError, match=r"none\.tsv: there is no such file"):
        input_files([SynonymsOptions(dictionary="none.tsv")], tmp_path)


@pytest.mark.parametrize("name", sorted(AUGMENTERS.entries))
def test_every_augmenter_keeps_the_contract(name):
    options = AUGMENTERS.options(name)()
    assert options.name == name
    assert options.roles == ("user",), "answers never change unless asked"
    made = AUGMENTERS.target(name)(options, Path())
    assert isinstance(made, Augmenter)
    assert made.variants([]) == []


@pytest.mark.parametrize("name", sorted(TRANSLATORS.entries))
def test_every_translator_keeps_the_contract(name):
    assert TRANSLATORS.options(name)().name == name
    assert issubclass(TRANSLATORS.target(name), Translator)


def test_the_api_key_never_leaves_the_options(monkeypatch):
    monkeypatch.setenv("SECRET_FOR_TEST", "sk-very-secret")
    server = {"base_url": "https://h.example/v1", "model": "m", "api_key": "${SECRET_FOR_TEST}"}
    options = ParaphraseOptions(server=server)
    assert options.server.api_key.get_secret_value() == "sk-very-secret"
    nested = BackTranslationOptions(backend={"name": "endpoint", "server": server})
    for shown in (options, nested):
        assert "sk-very-secret" not in json.dumps(shown.model_dump(mode="json")) + repr(shown) + str(shown)
        dumped = TypeAdapter(dict).dump_json(shown.model_dump(mode="json")).decode()
        assert "**********" in dumped


@pytest.mark.parametrize("address", ["ftp://h/v1", "h:8000/v1", "http://u:p@h/v1", "http://h/v1?key=1"])
def test_addresses_that_are_none_or_carry_secrets_are_refused(address):
    with pytest.raises(ValueError, match=r"write http://|a key goes into api_key"):
        ParaphraseOptions(server={"base_url": address})
