"""Exact Jaccard similarities of many pairs of texts at once, by sorting the numbers of their grams.

A batch has an alphabet of its own, in which a gram and the number of its pair make one 64-bit number: two numbers are
the same only where pair and gram are. That needs few characters and few pairs, as batches of ordinary text have.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tunewright.data.duplicates.hashing import Hashes, Points
from tunewright.data.duplicates.text import GRAM

_BITS = 64


def packed_similarities(left: Sequence[Points], right: Sequence[Points]) -> NDArray[np.float64] | None:
    """[pairs] of the texts left[i] and right[i], given as code points of bare texts; None where the batch has too many
    different characters. No text may be empty or hold NUL."""
    padded = [*map(_padded, left), *map(_padded, right)]
    units = np.concatenate(padded)
    known, numbers = np.unique(units, return_inverse=True)
    bits = len(known).bit_length()  # 0 is padding's, which is in `known` where there is any
    if GRAM * bits + len(left).bit_length() > _BITS:
        return None
    lengths = np.array([len(text) for text in padded])
    keys = _keys(numbers.astype(np.uint64), lengths, bits, len(left))
    border = int((lengths[: len(left)] - GRAM + 1).sum())
    one, other = _distinct(keys[:border]), _distinct(keys[border:])
    both = np.sort(np.concatenate([one, other]))
    shared = both[:-1][both[1:] == both[:-1]]
    counts = [
        np.bincount((part >> np.uint64(GRAM * bits)).astype(np.int64), minlength=len(left))
        for part in (one, other, shared)
    ]
    return _jaccard(*counts)


def _jaccard(one: NDArray[np.int64], other: NDArray[np.int64], shared: NDArray[np.int64]) -> NDArray[np.float64]:
    similar: NDArray[np.float64] = shared / (one + other - shared)
    return similar


def _padded(text: Points) -> Points:
    return text if len(text) >= GRAM else np.concatenate([text, np.zeros(GRAM - len(text), np.uint32)])


def _keys(numbers: Hashes, lengths: NDArray[np.int64], bits: int, pairs: int) -> Hashes:
    """The grams of all texts with the number of their pair in front, text by text."""
    count = len(numbers) - GRAM + 1
    packed = numbers[:count]
    for place in range(1, GRAM):
        packed = (packed << np.uint64(bits)) | numbers[place : count + place]
    ends = np.cumsum(lengths)[:-1]
    inside = np.ones(count, bool)
    inside[(ends[:, None] - np.arange(1, GRAM)).ravel()] = False
    pair = np.tile(np.arange(pairs, dtype=np.uint64), 2)
    keys: Hashes = packed[inside] | (np.repeat(pair, lengths - GRAM + 1) << np.uint64(GRAM * bits))
    return keys


def _distinct(keys: Hashes) -> Hashes:
    ordered: Hashes = np.sort(keys)
    first: Hashes = ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])]
    return first
