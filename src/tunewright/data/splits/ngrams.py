"""Runs of words or Han characters that stand in two texts: the overlap by which test sets are found in training data.

13 words are those of GPT-3's contamination study (Brown et al. 2020, appendix C); 20 Han characters are about as long.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from zlib import crc32

import numpy as np

from tunewright.data.duplicates.components import Rows
from tunewright.data.duplicates.hashing import Hashes, mix, points, windows

WORDS = 13
HAN = 20
_HAN = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_HAN_RUN = re.compile(f"[{_HAN}]+")
_WORD = re.compile(rf"[^\W_{_HAN}]+")
_ASCII_WORD = re.compile("[a-z0-9]+")
_NONE = np.empty(0, np.uint64)


def ngram_hashes(text: str) -> Hashes:
    """Hashes of every 13 words in a row and every 20 Han characters in a row, whatever stands between them.

    Compared in NFKC without case. A word is a run of other letters and digits.
    """
    folded = _folded(text)
    parts = []
    if not folded.isascii():
        parts.append(windows(mix(points("".join(_han_characters(folded))).astype(np.uint64)), HAN))
    words = _word_list(folded)
    if len(words) >= WORDS:
        units = np.array([crc32(word.encode("utf-8", "surrogatepass")) for word in words], np.uint64)
        parts.append(windows(mix(units), WORDS))
    return np.concatenate([np.empty(0, np.uint64), *parts])


def batch_hashes(texts: Sequence[str], *, fast: bool = True) -> list[tuple[Hashes, Rows]]:
    """The hashes of many texts with the number of the text of each, in parts with ascending numbers; those of one text
    are in the order of `ngram_hashes`. fast: all texts are hashed together; False asks text by text."""
    if not fast:
        found = [ngram_hashes(text) for text in texts]
        return [(np.concatenate([_NONE, *found]), _owners(range(len(texts)), [len(part) for part in found]))]
    han: list[tuple[int, str]] = []
    words: list[tuple[int, list[str]]] = []
    for number, text in enumerate(texts):
        folded = _folded(text)
        if folded.isascii():
            own = _ASCII_WORD.findall(folded)
        else:
            characters = "".join(_han_characters(folded))
            own = _word_list(folded)
            if len(characters) >= HAN:
                han.append((number, characters))
        if len(own) >= WORDS:
            words.append((number, own))
    parts = []
    if han:
        parts.append(_together(points("".join([characters for _, characters in han])).astype(np.uint64), han, HAN))
    if words:
        codes = _WordCodes()
        parts.append(_together(np.array([codes[word] for _, own in words for word in own], np.uint64), words, WORDS))
    return parts


class _WordCodes(dict[str, int]):
    """crc32 of words, computed once for each."""

    def __missing__(self, word: str) -> int:
        code = self[word] = crc32(word.encode("utf-8", "surrogatepass"))
        return code


def _together(units: Hashes, rows: Sequence[tuple[int, Sequence[str]]], size: int) -> tuple[Hashes, Rows]:
    """The windows of rows that stand one behind the other in `units`, without those that reach into the next row."""
    hashes = windows(mix(units), size)
    lengths = [len(own) for _, own in rows]
    ends = np.cumsum(lengths)[:-1]
    inside = np.ones(len(hashes), bool)
    inside[(ends[:, None] - np.arange(1, size)).ravel()] = False
    return hashes[inside], _owners([number for number, _ in rows], [length - size + 1 for length in lengths])


def _owners(rows: Sequence[int], counts: Sequence[int]) -> Rows:
    return np.repeat(np.array(rows, np.int64), np.array(counts, np.int64))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _han_characters(folded: str) -> list[str]:
    return list("".join(_HAN_RUN.findall(folded)))


def _word_list(folded: str) -> list[str]:
    return _WORD.findall(folded)


def shared_run(left: str, right: str) -> str:
    """The first 20 Han characters or 13 words of `left` that stand in `right`; empty where there are none."""
    for units, size, glue in ((_han_characters, HAN, ""), (_word_list, WORDS, " ")):
        one, other = units(_folded(left)), units(_folded(right))
        known = {tuple(other[start : start + size]) for start in range(len(other) - size + 1)}
        runs = (one[start : start + size] for start in range(len(one) - size + 1))
        found = next((run for run in runs if tuple(run) in known), None)
        if found:
            return glue.join(found)
    return ""
