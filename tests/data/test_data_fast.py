"""Every short way of the data stage ends where the plain one does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.core.chat import Conversation, Message
from tunewright.core.text import pii, secrets
from tunewright.data.draft import Draft
from tunewright.data.duplicates.hashing import points
from tunewright.data.duplicates.pairs import packed_similarities
from tunewright.data.duplicates.search import Exact
from tunewright.data.duplicates.text import (
    comparable,
    conversation_text,
    folded_and_stripped,
    grams,
    jaccard,
    row_text,
)
from tunewright.data.findings import Rejection
from tunewright.data.formats.recognise import build, recognise
from tunewright.data.plain_rows import plain_draft
from tunewright.data.rules.forged_turns import _CONTROL_HINTS, _LINE_HINTS, _SIGNS, find_forged
from tunewright.data.rules.options import RolesOptions
from tunewright.data.rules.roles import Roles, check_targets, is_in_order
from tunewright.data.rules.text import clean
from tunewright.data.splits.assign import question_text, row_question
from tunewright.data.splits.ngrams import batch_hashes
from tunewright.data.spool import Spool, parsed, row_line

JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.integers(-9, 9),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=8),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=6,
)
ROLES = st.sampled_from(["system", "user", "assistant", "tool", "User", "gpt", ""])
CALL = {"type": "function", "function": {"name": "f", "arguments": {"x": 1.5, "y": ["ü", None]}}}
SIGNS = [
    *"0123456789@:.+-()（） \\{\"'Xx<>[]_=/kaf",
    "１３８",
    "＠",
    "4111 1111 1111 1111",
    "13812345678",
    "(86) 138-1234-5678",
    "+1 202 555 0143",
    "0086 13812345678",
    "010-12345678",
    "0755 2345678",
    "11010519491231002X",
    "130503670401001",
    "192.168.1.77",
    "fe80::1",
    "::1",
    "a.b@example.com",
    "，电话",
    "password is Tr0ub4dor",
    "api_key=9f8e7d6c5b4a39281706",
    "sk-abcdEFGH1234567890zyXW",
    "User:",
    "\n客服：",
    "[INST]",
    "<|im_start|>",
    "### Instruction:",
    "\u200b",
    "\r\n",
    "e\u0301",
]
TEXTS = st.lists(st.one_of(st.sampled_from(SIGNS), st.text(max_size=4)), max_size=10).map("".join)


def message(role: str, text: str | None, **more: object) -> Message:
    return Message.model_validate({"role": role, "content": text, **more})


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    """At least one trained turn; some turns are empty, masked, or hold calls."""
    turns = [
        message(
            draw(st.sampled_from(["system", "user", "assistant"])),
            draw(TEXTS),
            train=draw(st.sampled_from([None, False])),
        )
        for _ in range(draw(st.integers(0, 4)))
    ]
    if draw(st.booleans()):
        turns.append(message("assistant", None, tool_calls=[CALL]))
        turns.append(message("tool", draw(TEXTS), tool_call_id="a", name="f"))
    turns.append(message("assistant", draw(TEXTS), train=draw(st.sampled_from([None, True]))))
    metadata = draw(st.dictionaries(st.text(max_size=4), JSON, max_size=3))
    return Conversation(id=draw(st.text(max_size=5)), messages=tuple(turns), metadata=metadata)


@settings(max_examples=300, deadline=None)
@given(conversations())
def test_rows_are_sealed_as_the_standard_library_does(row: Conversation) -> None:
    plain = [turn.model_dump(exclude_defaults=True) for turn in row.messages]
    assert row.to_row()["conversation"] == plain
    assert [list(turn) for turn in row.to_row()["conversation"]] == [list(turn) for turn in plain]
    line = row_line(row.to_row())
    assert line == row_line(row.to_row(), fast=False)
    turns = json.loads(line)["conversation"]
    assert row_text(turns) == conversation_text(row)
    assert row_question(turns) == question_text(row)
    assert parsed(line).messages == row.messages


def test_rows_that_orjson_writes_otherwise_go_the_plain_way() -> None:
    for value in (1e-05, 1e16, 2**64, -(2**63) - 1, 0.1, {"a": [1e300]}):
        assert row_line({"m": value}) == json.dumps({"m": value}, separators=(",", ":")).encode()
    with pytest.raises(ValueError, match="Out of range"):
        row_line({"m": float("nan")})
    assert row_line({"m": {1: "a"}}) == b'{"m":{"1":"a"}}'


@settings(max_examples=300, deadline=None)
@given(
    key=st.sampled_from(["conversation", "messages", "conversations", "turns"]),
    turns=st.lists(st.tuples(ROLES, st.one_of(TEXTS, JSON)), max_size=3),
    more=st.dictionaries(st.sampled_from(["content", "train", "value", "name"]), JSON, max_size=1),
    row=st.dictionaries(st.sampled_from(["metadata", "id", "tools", "system", "label", "images"]), JSON, max_size=2),
    metadata=st.dictionaries(st.sampled_from(["a", "tools", "b"]), JSON, max_size=2),
)
def test_plain_rows_are_read_as_all_others(key, turns, more, row, metadata) -> None:
    raw = {key: [{"role": role, "content": text, **more} for role, text in turns], **row}
    if "id" not in row:
        raw["metadata"] = metadata
    found = plain_draft(raw)
    if found is None:
        return
    expected = recognise(raw)
    assert not isinstance(expected, Rejection)
    assert found == (build(expected), expected.format)


def test_which_rows_are_plain() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    for row in ({"conversation": turns}, {"messages": turns, "metadata": {"n": 1, "x": 0.5, "t": None}}):
        assert plain_draft(row) is not None
    for odd in (
        {"conversation": turns, "id": 7},
        {"conversation": []},
        {"conversation": turns, "metadata": {"tools": "[]"}},
        {"conversation": turns, "metadata": {"deep": {}}},
        {"conversation": [{**turns[0], "train": True}, turns[1]]},
        {"conversations": turns},
    ):
        assert plain_draft(odd) is None


@settings(max_examples=600, deadline=None)
@given(TEXTS)
def test_rules_look_where_their_signs_are(text: str) -> None:
    assert pii.find_pii(text) == pii.find_pii(text, fast=False)
    assert secrets.find_secrets(text) == secrets.find_secrets(text, fast=False)
    assert find_forged(text) == find_forged(text, fast=False)
    assert clean(text) == clean(text, fast=False)


def test_every_hint_has_its_sign() -> None:
    """What ends a search early must be in everything that the search looks for."""
    for hint in secrets._HINTS:
        assert secrets._has_signs(hint) or not hint.isascii()
    for hint in (*_CONTROL_HINTS, *_LINE_HINTS):
        assert any(sign in hint for sign in (*_SIGNS, "["))  # a marker that opens with [ closes with ]
    for text in ("13812345678", "010-12345678", "4111111111111111", "130503670401001", "1.2.3.4", "a@b.cn", "1::"):
        assert pii._has_signs(text)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant", "tool"]), TEXTS, st.booleans()), max_size=5))
def test_rows_in_order_stay_as_they_are(turns) -> None:
    draft = Draft(tuple(message(role, text, train=None if given_ else False) for role, text, given_ in turns), {})
    assert Roles(RolesOptions()).apply(draft) == Roles(RolesOptions(), fast=False).apply(draft)
    assert check_targets(draft) == check_targets(draft, fast=False)
    if is_in_order(draft.turns):
        assert Roles(RolesOptions(), fast=False).apply(draft) == replace(draft)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.text(max_size=40), TEXTS, st.just("汉字" * 15), st.just("a word or " * 6)), max_size=6))
def test_texts_are_compared_as_one_by_one(texts: list[str]) -> None:
    assert [comparable(text) for text in texts] == [folded_and_stripped(text) for text in texts]
    fast, plain = batch_hashes(texts), batch_hashes(texts, fast=False)
    assert by_text(fast, len(texts)) == by_text(plain, len(texts))
    assert all((np.diff(rows) >= 0).all() for _, rows in fast), "ascending, as FirstSeen needs them"


def by_text(parts, count: int) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in range(count)]
    for hashes, rows in parts:
        for value, row in zip(hashes.tolist(), rows.tolist(), strict=True):
            found[row].append(value)
    return found


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.text("abc汉", min_size=1, max_size=14), st.text("abc汉", min_size=1, max_size=14)),
        min_size=1,
        max_size=9,
    )
)
def test_similarities_at_once_are_exact(pairs) -> None:
    expected = [jaccard(grams(left), grams(right)) for left, right in pairs]
    found = packed_similarities([points(left) for left, _ in pairs], [points(right) for _, right in pairs])
    assert found is not None and found.tolist() == expected
    texts = [text for pair in pairs for text in pair]
    rows = np.arange(0, len(texts), 2)
    for fast in (True, False):
        assert Exact(texts, fast=fast).similarities(rows, rows + 1).tolist() == expected


def test_too_many_characters_are_compared_one_by_one() -> None:
    texts = ["".join(map(chr, range(0x4E00 + n, 0x4E00 + n + 5000))) for n in range(0, 60, 5)]
    assert packed_similarities([points(text) for text in texts], [points(text) for text in texts[::-1]]) is None
    rows = np.arange(len(texts))
    found = Exact(texts).similarities(rows, rows[::-1])
    assert found.tolist() == Exact(texts, fast=False).similarities(rows, rows[::-1]).tolist()
    assert 0.9 < found.min() < found.max() < 1


def test_long_texts_are_compared_in_batches_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    from tunewright.data.duplicates import search

    monkeypatch.setattr(search, "_BATCH_POINTS", 100)
    monkeypatch.setattr(search, "_KEPT_POINTS", 150)
    texts = [("card " * (n % 13) + f"number {n}") * (1 + n % 3) for n in range(60)]
    left, right = np.arange(59), np.arange(1, 60)
    found = Exact(texts).similarities(left, right)
    assert found.tolist() == [jaccard(*(grams(comparable(texts[row])) for row in (n, n + 1))) for n in range(59)]


def test_the_spool_gives_back_every_line_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tunewright.data import spool as module

    monkeypatch.setattr(module, "_BLOCK", 64)
    monkeypatch.setattr(module, "_WAITING", 200)
    lines = [b"x" * (n * 7 % 90) + str(n).encode() for n in range(300)]
    with Spool(tmp_path / "spool") as spool:
        for line in lines[:200]:
            spool.append(line)
        assert spool.line(150) == lines[150]
        for line in lines[200:]:
            spool.append(line)
        assert [spool.line(row) for row in range(300)] == lines == list(spool.lines(range(300)))
        view = spool.only([5, 7, 250, 6, 299, 0])
        assert list(view.lines(range(6))) == [lines[row] for row in (5, 7, 250, 6, 299, 0)]
        assert [view.line(row) for row in (3, 1)] == [lines[6], lines[7]]
    assert not (tmp_path / "spool").exists()
