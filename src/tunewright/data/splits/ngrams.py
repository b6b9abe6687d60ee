"""Runs of words or Han characters that stand in two texts: the overlap by which test sets are found in training data.

13 words are those of GPT-3's contamination study (Brown et al. 2020, appendix C); 20 Han characters are about as long.
"""

from __future__ import annotations

import re
import unicodedata
from zlib import crc32

import numpy as np

from tunewright.data.duplicates.hashing import Hashes, mix, points, windows

WORDS = 13
HAN = 20
_HAN = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_HAN_RUN = re.compile(f"[{_HAN}]+")
_WORD = re.compile(rf"[^\W_{_HAN}]+")


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
