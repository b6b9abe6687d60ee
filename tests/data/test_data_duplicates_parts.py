from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.core.chat import Conversation, Message
from tunewright.data.duplicates import hashing, minhash
from tunewright.data.duplicates.components import Components
from tunewright.data.duplicates.conflicts import find_conflicts
from tunewright.data.duplicates.text import comparable, conversation_text, grams, jaccard
from tunewright.data.splits.assign import question_digest


def talk(*turns, name="x"):
    return Conversation(id=name, messages=tuple(Message(role=role, content=text) for role, text in turns))


def test_what_is_compared():
    assert comparable(" Ｃａｒｄ, No. 12\u200b：\n“Straße” ¥5 + 3 好吗？") == "cardno12strasse¥5+3好吗"
    call = {"type": "function", "function": {"name": "look_up", "arguments": {"id": 1}}}
    spoken = (
        Message(role="system", content="Be kind."),
        Message(role="user", content="a"),
        Message(role="assistant", content=None, tool_calls=(call,)),
        Message(role="tool", content="b"),
    )
    text = conversation_text(Conversation(id="x", messages=spoken))
    assert text.split("\n")[0] == "a"
    assert "look_up" in text
    assert text.split("\n")[2] == "b"
    assert "kind" not in text


def test_grams_and_their_similarity():
    assert grams("abcdefg") == {"abcde", "bcdef", "cdefg"}
    assert grams("abc") == {"abc"}
    assert grams("") == frozenset()
    assert jaccard(grams("abcdefg"), grams("abcdefh")) == 2 / 4
    assert jaccard(grams(""), grams("")) == 0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text("ab\u4e00\U0001f600", min_size=1, max_size=12), min_size=1, max_size=6))
def test_gram_hashes_are_those_of_each_text_alone(texts):
    hashes, starts = hashing.gram_hashes(texts)
    by_hash = {}
    for text, low, high in zip(texts, starts[:-1], starts[1:], strict=True):
        assert len(set(hashes[low:high].tolist())) == len(grams(text))
        for position, value in enumerate(hashes[low:high].tolist()):
            assert by_hash.setdefault(value, text[position : position + 5]) == text[position : position + 5]


def test_hashes_are_the_same_everywhere():
    """SplitMix64 seeded with 0 gives 0xE220A8397B1DCDAF first (Vigna's reference splitmix64.c)."""
    golden = np.array([0x9E3779B97F4A7C15], np.uint64)
    assert hashing.mix(golden).tolist() == [0xE220A8397B1DCDAF]
    raw = hashlib.blake2b("卡".encode(), digest_size=8).digest()
    assert hashing.text_hashes(["卡"]).tolist() == [int.from_bytes(raw, "little")]


@pytest.mark.parametrize("size", [1, 2, 5, 13, 20])
def test_windows_are_equal_where_their_units_are(size):
    units = hashing.mix(np.array([1, 2, 3, 4, 5, 6, 7] * 6, np.uint64))
    found = hashing.windows(units, size).tolist()
    runs = [tuple(units[start : start + size].tolist()) for start in range(len(units) - size + 1)]
    assert len(found) == len(runs)
    assert len(set(found)) == len(set(runs)) == 7
    assert len(set(zip(found, runs, strict=True))) == 7
    assert hashing.windows(units[: size - 1], size).tolist() == []


@pytest.mark.parametrize("use_rensa", [False, True])
@pytest.mark.parametrize("shared", [0.2, 0.5, 0.7, 0.9])
def test_sketches_estimate_the_similarity(use_rensa, shared):
    """The share of equal bytes is J + (1 - J) / 256; over 200 pairs its error is 0.003, five times that is allowed."""
    if use_rensa:
        pytest.importorskip("rensa")
    draw = np.random.default_rng(1)
    sketcher = minhash.Sketcher(threshold=0.7, seed=7, use_rensa=use_rensa)
    texts = []
    for _ in range(200):
        head = "".join(map(chr, draw.integers(0x4E00, 0x9FFF, round(200 * shared) + 4)))
        tails = ["".join(map(chr, draw.integers(0x4E00, 0x9FFF, round(100 * (1 - shared))))) for _ in range(2)]
        texts += [head + tail for tail in tails]
    exact = np.mean([jaccard(grams(one), grams(two)) for one, two in zip(texts[::2], texts[1::2], strict=True)])
    sketches = sketcher.sketch(texts)
    rows = np.arange(0, 400, 2)
    matches = sketches.matches(rows, rows + 1).mean() / 128
    assert matches == pytest.approx(exact + (1 - exact) / 256, abs=0.016)
    keys = (sketches.keys[:, rows] == sketches.keys[:, rows + 1]).any(axis=0).mean()
    assert keys == pytest.approx(minhash.caught_share(exact, sketcher.rows), abs=0.12)


def test_bands_follow_the_s_curve():
    """0.7: 5 rows in 25 bands; by hand: 0.75**5 = 0.2373, 1 - 0.7627**25 = 0.9989; 6 rows in 21 bands give 0.98."""
    assert minhash.band_rows(0.7) == 5
    assert minhash.caught_share(0.75, 5) == pytest.approx(0.9989, abs=1e-4)
    assert minhash.caught_share(0.75, 6) < 0.99
    for threshold in np.linspace(0.3, 1, 15):
        rows = minhash.band_rows(threshold)
        assert minhash.caught_share(threshold + (1 - threshold) / 6, rows) >= 0.995
    assert minhash.band_rows(1) == 128


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 30), st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=40), st.integers(1, 5))
def test_components_are_those_of_a_flood_fill(count, pairs, step):
    pairs = [(one % count, other % count) for one, other in pairs]
    components = Components(count)
    for start in range(0, len(pairs), step):
        left, right = (np.array(side, np.int64) for side in zip(*pairs[start : start + step], strict=True))
        components.join(left, right)
    lowest = list(range(count))
    for _ in range(count):
        for one, other in pairs:
            lowest[one] = lowest[other] = min(lowest[one], lowest[other])
    assert components.find(np.arange(count)).tolist() == lowest
    groups = [rows.tolist() for rows in components.groups()]
    assert groups == [[r for r in range(count) if lowest[r] == root] for root in sorted(set(lowest))]


def test_a_long_chain_is_joined_quickly():
    rows = np.arange(200_000)
    components = Components(len(rows))
    components.join(rows[1:], rows[:-1])
    assert not components.find(rows).any()


def conflicts(*rows):
    read = []

    def conversation(row):
        read.append(row)
        return rows[row]

    found = list(find_conflicts([question_digest(row) for row in rows], conversation))
    return found, read


def test_answers_that_contradict_are_named_with_their_twin():
    rows = (
        talk(("user", "Is it open on Sunday?"), ("assistant", "Yes."), name="a:1"),
        talk(("user", "Another"), ("assistant", "thing"), name="a:2"),
        talk(("user", "is it open  on SUNDAY?"), ("assistant", "yes."), name="a:3"),
        talk(("user", "Is it open on Sunday?"), ("assistant", "No."), name="a:4"),
    )
    found, read = conflicts(*rows)
    ((row, note),) = found
    assert row == 3
    assert (note.code, note.action) == ("CONFLICT", "kept")
    assert note.reason == "the same question as a:1 with another answer: 'No.' here, 'Yes.' there"
    assert note.excerpt == "Is it open on Sunday?"
    assert 1 not in read  # a question that stands once is not read


def test_other_system_turns_and_longer_talks_are_no_conflict():
    ask, yes, no = ("user", "q"), ("assistant", "yes"), ("assistant", "no")
    assert conflicts(talk(("system", "a"), ask, yes), talk(("system", "b"), ask, no))[0] == []
    assert len(conflicts(talk(("system", "a"), ask, yes), talk(("system", "a"), ask, no))[0]) == 1
    long = (("user", "hi"), ("assistant", "hello"), ask)
    assert conflicts(talk(*long, yes), talk(*long, no))[0] == []
