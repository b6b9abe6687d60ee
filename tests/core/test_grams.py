"""n-grams and listed words of many texts at once, against their plain definition."""

from __future__ import annotations

import random
import re
from collections import Counter

import numpy as np
import pytest

from tunewright.core.text import grams
from tunewright.core.text.grams import LATIN_ORDERS, OTHER_ORDERS, Batch, Lexicon, batches, bucket_of, hash_of, plain

LATIN = re.compile("[a-z0-9'*]")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("F U C K you", "fuck you"),
        ("s.h.i.t!", "shit!"),
        ("I am a b", "i am a b"),
        ("傻 逼 ， 滚", "傻逼 , 滚"),
        ("ＳＢ！", "sb!"),
        ("sh@t f**k a*b", "sh*t f*k a*b"),
        ("**bold** 2 * 3", "bold 2 3"),
        ("fuuuuck, sooo good", "fuck, so good"),
        ("哈哈哈", "哈哈哈"),
        ("傻\u200b逼", "傻逼"),
        ("醜八怪", "醜八怪"),
        (" a\n\tb ", "a b"),
        ("", ""),
    ],
)
def test_plain(text: str, expected: str) -> None:
    assert re.sub(" +", " ", plain(text)).strip() == expected


def _reference(text: str) -> Counter[int]:
    """Every n-gram by its definition, one window after the other."""
    found: Counter[int] = Counter()
    for order in OTHER_ORDERS:
        for start in range(len(text) - order + 1):
            window = text[start : start + order]
            if not all(map(LATIN.match, window)):
                found[hash_of(window)] += 1
    edged = "".join(sign if LATIN.match(sign) else " " for sign in f" {text} ")
    for order in LATIN_ORDERS:
        for start in range(len(edged) - order + 1):
            window = edged[start : start + order]
            if " " not in window[1:-1] and window.strip():
                found[hash_of(window)] += 1
    return found


def _random_texts(count: int, *, seed: int) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices("ab c'*0坏蛋，。?!é😀", k=draw.randint(0, 30))) for _ in range(count)]


def test_grams_are_those_of_the_definition() -> None:
    texts = [*_random_texts(200, seed=3), "", "a", "坏", "ab", "坏a", "a坏b", "a b"]
    found: list[Counter[int]] = [Counter() for _ in texts]
    for owner, hashes in Batch(texts).grams():
        for text, value in zip(owner.tolist(), hashes.tolist(), strict=True):
            found[text][value] += 1
    assert found == [_reference(text) for text in texts]


def test_words_are_those_of_the_definition() -> None:
    words = [["ab", "shut up", "a*b"], ["坏蛋", "坏", "坏ab", "ab"]]
    texts = [*_random_texts(200, seed=5), "ab", "cab ab's ab", "shut up", "shut, up", "shut upa", "坏蛋坏ab", "a*b"]
    found: list[Counter[int]] = [Counter() for _ in texts]
    for owner, section in Batch(texts).words(Lexicon.of(words)):
        for pair in zip(owner.tolist(), section.tolist(), strict=True):
            found[pair[0]][pair[1]] += 1
    for text, counted in zip(texts, found, strict=True):
        whole = [len(re.findall(rf"(?<![a-z0-9'*]){re.escape(w)}(?![a-z0-9'*])", text)) for w in words[0]]
        parts = [sum(text.startswith(w, at) for at in range(len(text))) for w in ("坏蛋", "坏", "坏ab")]
        assert (counted[0], counted[1]) == (sum(whole), sum(parts)), text


def test_a_word_of_two_sections_counts_in_the_first() -> None:
    lexicon = Lexicon.of([["坏", "ab"], ["坏", "ab"]])
    assert lexicon.part_section.tolist() == lexicon.word_section.tolist() == [0]


def test_batches_hold_all_texts_in_order_and_no_more_than_they_may(monkeypatch: pytest.MonkeyPatch) -> None:
    grams._powers.cache_clear()
    monkeypatch.setattr(grams, "BATCH_CHARS", 40)
    texts = _random_texts(60, seed=1)
    made = list(batches(texts))
    assert len(made) > 5
    assert sum(batch.count for batch in made) == len(texts)
    assert all(len(batch.codes) <= 40 for batch in made)
    joined = "".join("".join(map(chr, batch.codes.tolist()))[1:] for batch in made)
    assert joined == "".join(text + "\n" for text in texts)
    grams._powers.cache_clear()


def test_signs_are_counted_by_text() -> None:
    assert Batch(["a?b?", "", "!?"]).signs("?").tolist() == [2, 0, 1]


def test_buckets_use_every_bit() -> None:
    hashes = np.array([hash_of(f"{number}") for number in range(5000)], np.uint64)
    buckets = bucket_of(hashes, 10)
    assert buckets.min() >= 0 and buckets.max() < 1024
    assert len(set(buckets.tolist())) > 1000, "5000 different texts leave hardly one of 1024 buckets empty"
