"""Stable 64-bit hashes of runs of numbers, over many documents at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.data.duplicates.text import GRAM

Hashes = NDArray[np.uint64]
Points = NDArray[np.uint32]
_ODD = np.uint64(0x9E3779B97F4A7C15)


def mix(values: Hashes) -> Hashes:
    """The finalizer of splitmix64 (Steele et al. 2014): a bijection after which every bit depends on every other."""
    mixed = values ^ (values >> np.uint64(30))
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def stream(seed: int, count: int) -> Hashes:
    """[count] numbers that only `seed` decides, the same with every version of numpy."""
    return mix(mix(np.full(count, seed, np.uint64)) + np.arange(1, count + 1, dtype=np.uint64) * _ODD)


def combine(left: Hashes, right: Hashes) -> Hashes:
    """One hash of two, in which their order counts."""
    return mix(left * _ODD + right)


def windows(units: Hashes, size: int) -> Hashes:
    """The hash of every `size` units in a row, [len - size + 1]: by doubling, so in log2(size) steps."""
    if len(units) < size:
        return np.empty(0, np.uint64)
    hashed: Hashes | None = None
    level, width, covered = units, 1, 0
    while True:
        if size & width:
            part = level[covered:]
            hashed = part if hashed is None else combine(hashed[: len(part)], part[: len(hashed)])
            covered += width
        if covered == size:
            assert hashed is not None
            return mix(hashed[: len(units) - size + 1])
        level = combine(level[:-width], level[width:])
        width *= 2


def points(text: str) -> Points:
    """The code points of a text."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def gram_hashes(texts: Sequence[str]) -> tuple[Hashes, NDArray[np.int64]]:
    """The hashes of the 5-grams of each bare text, repeats included, and where each text's begin: [n + 1].

    No text may be empty. Equal grams have equal hashes; different ones collide with probability 2**-64.
    """
    padded = [text if len(text) >= GRAM else text.ljust(GRAM, "\0") for text in texts]
    lengths = np.array([len(text) for text in padded], np.int64)
    ends = np.cumsum(lengths)
    units = points("".join(padded)).astype(np.uint64)
    first = units[:-4] | (units[1:-3] << np.uint64(21)) | (units[2:-2] << np.uint64(42))
    rest = units[3:-1] | (units[4:] << np.uint64(21))
    hashed = combine(mix(first), rest)
    inside = np.ones(len(units), bool)
    inside[(ends[:, None] - np.arange(1, GRAM)).ravel()] = False  # these would reach into the next text
    return hashed[inside[: len(hashed)]], np.concatenate([[0], np.cumsum(lengths - GRAM + 1)])


def text_hashes(texts: Sequence[str]) -> Hashes:
    """[n] a hash of each whole text; equal by chance for one pair in 1.8e19."""
    from hashlib import blake2b

    raw = b"".join(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in texts)
    return np.frombuffer(raw, np.dtype("<u8")).astype(np.uint64)


def distinct(values: NDArray[Any]) -> NDArray[np.bool_]:
    """True where a value stands for the first time."""
    found = np.zeros(len(values), bool)
    found[np.unique(values, return_index=True)[1]] = True
    return found
