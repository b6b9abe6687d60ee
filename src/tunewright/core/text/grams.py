"""Character n-grams and listed words of many texts at once, counted by hash.

A text becomes: n-grams of 1 and 2 characters of Han script, other scripts and signs; n-grams of 2 to 5 characters
within words of Latin letters and digits, a word's edge counting as a character; and words of a lexicon, known by their
hash. All substrings of a batch are hashed from one running polynomial (Karp & Rabin 1987), so that the work is a few
array operations a length, not a loop over characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tunewright.core.text.fold import fold

Hashes = NDArray[np.uint64]
Indices = NDArray[np.int64]

OTHER_ORDERS = (1, 2)
LATIN_ORDERS = (2, 3, 4, 5)
BATCH_CHARS = 1 << 17
"""Characters that are hashed together: arrays of this length stay in the cache of the processor."""
_BASE = 0x9E3779B97F4A7C15
"""Odd, so that it has an inverse modulo 2^64."""
_MIX = np.uint64(0xD6E8FEB86659FD93)
_EDGE = 0x20
_LATIN = np.zeros(129, bool)
_LATIN[[ord(sign) for sign in "abcdefghijklmnopqrstuvwxyz0123456789'*"]] = True
_WORD = re.compile("[a-z0-9'* ]+")
_WIDE = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)} | {0x2019: "'", 0x2018: "'", 0x3002: "."}
_SPACES = re.compile(r"\s+")
_HAN = "\u3400-\u9fff"
_APART = re.compile(f"(?<=[{_HAN}]) (?=[{_HAN}])")
_SPELLED = re.compile(r"(?<![a-z0-9])[a-z](?:[ .\-_][a-z]){2,}(?![a-z0-9])")
_CENSORED = re.compile(r"(?<=[a-z])[*@#$%]+(?=[a-z])")
_DRAWN_OUT = re.compile(r"([a-z])\1{2,}")


def plain(text: str) -> str:
    """`text` as it is compared: small letters, one width, no invisible characters, single blanks, nothing spaced out.

    `f u c k` and `f.u.c.k` become one word, blanks between Han characters go, `sh@t` and `sh**t` become `sh*t`, a
    letter that stands three times or more stands once. Traditional characters stay what they are.
    """
    text = fold(text).text.lower()
    if not text.isascii():
        text = text.translate(_WIDE)
    text = _SPACES.sub(" ", text).strip()
    if not text.isascii() and " " in text:
        text = _APART.sub("", text)
    text = _SPELLED.sub(lambda match: re.sub("[ .\\-_]", "", match[0]), text)
    text = _CENSORED.sub("\1", text).replace("*", " ").replace("\1", "*")
    return _DRAWN_OUT.sub(r"\1", text)


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Words by hash, sorted. words: of Latin letters, found as a whole word or as two in a row; parts: all others,
    found anywhere; `*_section`: which section each belongs to; lengths: of the parts, in characters."""

    words: Hashes
    word_section: Indices
    parts: Hashes
    part_section: Indices
    lengths: tuple[int, ...]

    @staticmethod
    def of(sections: Sequence[Sequence[str]]) -> Lexicon:
        """From words as `plain` writes them; one that stands in two sections counts in the first."""
        first: dict[str, int] = {}
        for section, words in enumerate(sections):
            for word in words:
                first.setdefault(word, section)
        whole = {word: section for word, section in first.items() if _WORD.fullmatch(word)}
        parts = {word: section for word, section in first.items() if word not in whole}
        lengths = tuple(sorted({len(word) for word in parts}))
        return Lexicon(*_sorted(whole), *_sorted(parts), lengths)


def _sorted(words: dict[str, int]) -> tuple[Hashes, Indices]:
    hashes = np.array([hash_of(word) for word in words], np.uint64)
    order = np.argsort(hashes)
    return hashes[order], np.array(list(words.values()), np.int64)[order]


def hash_of(text: str) -> int:
    """The hash of a text by itself: the plain definition of what `Batch` finds for every substring."""
    total = 0
    for index, sign in enumerate(text):
        total += ord(sign) * pow(_BASE, index, 1 << 64)
    return total % (1 << 64)


@cache
def _powers() -> tuple[Hashes, Hashes]:
    """[BATCH_CHARS + 1] powers of the base and of its inverse, modulo 2^64."""
    inverse = pow(_BASE, -1, 1 << 64)
    found = []
    for base in (_BASE, inverse):
        factors = np.full(BATCH_CHARS + 1, base, np.uint64)
        factors[0] = 1
        found.append(np.multiply.accumulate(factors))
    return found[0], found[1]


def bucket_of(hashes: Hashes, bits: int) -> Indices:
    """Hashes to numbers below 2^bits, every bit of the hash taking part."""
    mixed = (hashes ^ (hashes >> np.uint64(32))) * _MIX
    return (mixed >> np.uint64(64 - bits)).astype(np.int64)


class Batch:
    """Texts, as `plain` writes them, side by side; together at most BATCH_CHARS with one sign between them."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.count = len(texts)
        joined = "\n" + "\n".join(texts) + "\n"
        self.codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
        assert len(self.codes) <= BATCH_CHARS
        self._latin = _LATIN[np.minimum(self.codes, 128)]
        between = self.codes == ord("\n")
        self.owner = np.cumsum(between) - 1
        self._before_latin = _running(self._latin)
        self._before_between = _running(between)
        edged = np.where(self._latin, self.codes, np.uint64(_EDGE))
        self._sums, self._edged_sums = _sums(self.codes), _sums(edged)

    def grams(self) -> Iterator[tuple[Indices, Hashes]]:
        """(text of each n-gram, its hash) for every length, n-grams of one length in the order of the texts."""
        for order in OTHER_ORDERS:
            start = self._inside(order)
            start = start[self._latins(start, order) < order]
            yield self.owner[start], self._hash(self._sums, start, order)
        for order in LATIN_ORDERS:
            start = np.arange(len(self.codes) - order + 1)
            inner = self._latins(start + 1, order - 2) == order - 2
            start = start[inner & (self._latins(start, order) > 0)]
            owner = self.owner[start + (order > 2)] if order > 2 else self._owner_of_pair(start)
            yield owner, self._hash(self._edged_sums, start, order)

    def words(self, lexicon: Lexicon) -> Iterator[tuple[Indices, Indices]]:
        """(text of each listed word, its section)."""
        for order in lexicon.lengths:
            start = self._inside(order)
            found, section = _look_up(self._hash(self._sums, start, order), lexicon.parts, lexicon.part_section)
            yield self.owner[start[found]], section
        step = np.diff(self._latin.astype(np.int8))
        start, end = np.flatnonzero(step == 1) + 1, np.flatnonzero(step == -1) + 1
        near = np.flatnonzero((start[1:] == end[:-1] + 1) & (self.codes[end[:-1]] == _EDGE)) if len(start) else start
        for first, last in ((start, end), (start[near], end[near + 1])):
            hashes = (self._sums[last] - self._sums[first]) * _powers()[1][first]
            found, section = _look_up(hashes, lexicon.words, lexicon.word_section)
            yield self.owner[first[found]], section

    def signs(self, sign: str) -> Indices:
        """[texts] how often one sign stands in each text."""
        counts: Indices = np.bincount(self.owner[self.codes == ord(sign)], minlength=self.count)[: self.count]
        return counts

    def _inside(self, order: int) -> Indices:
        """Starts of all windows of this length that lie in one text."""
        start: Indices = np.arange(max(0, len(self.codes) - order + 1))
        inside: Indices = start[self._before_between[start + order] == self._before_between[start]]
        return inside

    def _latins(self, start: Indices, order: int) -> Indices:
        count: Indices = self._before_latin[start + order] - self._before_latin[start]
        return count

    def _owner_of_pair(self, start: Indices) -> Indices:
        return np.where(self._latin[start], self.owner[start], self.owner[start + 1])

    @staticmethod
    def _hash(sums: Hashes, start: Indices, order: int) -> Hashes:
        found: Hashes = (sums[start + order] - sums[start]) * _powers()[1][start]
        return found


def _running(flags: NDArray[np.bool_]) -> Indices:
    """[n + 1] how many flags stand before each place."""
    return np.concatenate([[0], np.cumsum(flags)])


def _sums(codes: Hashes) -> Hashes:
    terms = codes * _powers()[0][: len(codes)]
    return np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms, dtype=np.uint64)])


def _look_up(hashes: Hashes, known: Hashes, section: Indices) -> tuple[Indices, Indices]:
    """Places in `hashes` of known ones, and their sections."""
    if not len(known):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    place = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
    found = np.flatnonzero(known[place] == hashes)
    return found, section[place[found]]


def batches(texts: Sequence[str]) -> Iterator[Batch]:
    """The texts in order, in batches; none longer than BATCH_CHARS - 2."""
    start, room = 0, BATCH_CHARS - 2
    for index, text in enumerate(texts):
        if len(text) + 1 > room:
            yield Batch(texts[start:index])
            start, room = index, BATCH_CHARS - 2
        room -= len(text) + 1
    if start < len(texts):
        yield Batch(texts[start:])
