"""MinHash (Broder 1997) with LSH banding (Leskovec et al., Mining of Massive Datasets, 3.4), kept small.

Of the 128 minima of 32 bits a row keeps one byte each, to estimate a Jaccard similarity (b-bit minwise hashing, Li and
König 2010), and one 32-bit key a band: 128 + 4 * bands bytes.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from tunewright.core.errors import MissingExtraError
from tunewright.data.duplicates.hashing import Hashes, combine, gram_hashes, stream

PERMUTATIONS = 128
RECALL = 0.995
"""Of the pairs one sixth of the way from the threshold to 1 (0.75 for 0.7) the bands must catch this share."""
DOUBT = 2.5
"""Standard errors of the estimate below the threshold at which a pair is still compared exactly."""
_BATCH_CHARS = 1 << 17
_SPREAD = np.uint32(0x9E3779B1)
_CHANCE = 1 / 256
"""Share of equal bytes of unlike minima."""


def band_rows(threshold: float) -> int:
    """Minima in a band: the most that keep RECALL, so that the fewest pairs below the threshold are looked at.

    A pair of similarity s shares a band with probability 1 - (1 - s**rows)**bands, bands = 128 // rows. For 0.7 that is
    5 rows in 25 bands: 99.9 % of the pairs at 0.75, 99.0 % at 0.7, 55 % at 0.5, 6 % at 0.3.
    """
    wanted = threshold + (1 - threshold) / 6
    caught = (rows for rows in range(PERMUTATIONS, 0, -1) if caught_share(wanted, rows) >= RECALL)
    return next(caught, 1)


def caught_share(similarity: float, rows: int) -> float:
    """The share of pairs of this similarity that meet in at least one band of `rows` minima."""
    return 1.0 - (1.0 - similarity**rows) ** (PERMUTATIONS // rows)


def fewest_matches(similarity: float) -> int:
    """How many of the 128 bytes are expected to be equal at this similarity."""
    return int(np.ceil(PERMUTATIONS * (similarity + (1 - similarity) * _CHANCE) - 1e-9))


def doubtful(threshold: float) -> float:
    """The lowest estimate of a pair that may well reach the threshold."""
    return max(0.0, threshold - DOUBT * sqrt(threshold * (1 - threshold) / PERMUTATIONS))


@dataclass(frozen=True)
class Sketches:
    """marks: [n, 128] uint8; keys: [bands, n] uint32; both in the order of the texts."""

    marks: NDArray[np.uint8]
    keys: NDArray[np.uint32]

    def put(self, rows: NDArray[np.int64], part: Sketches) -> None:
        """Sets the sketches of `rows`."""
        self.marks[rows] = part.marks
        self.keys[:, rows] = part.keys

    def matches(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
        """Equal bytes of the rows left[i] and right[i]: [pairs], 0..128."""
        found: NDArray[np.int64] = np.count_nonzero(self.marks[left] == self.marks[right], axis=1)
        return found


class Sketcher:
    """Makes the sketches of texts. seed: decides the permutations; rensa: None takes it where it is installed.

    The two ways draw other permutations, so on the border of what the bands catch they may differ.
    """

    def __init__(self, *, threshold: float, seed: int, use_rensa: bool | None = None) -> None:
        self.rows = band_rows(threshold)
        self.bands = PERMUTATIONS // self.rows
        installed = importlib.util.find_spec("rensa") is not None
        if use_rensa and not installed:
            raise MissingExtraError("rensa is not installed", fix="pip install rensa, or leave use_rensa unset")
        self.engine = "rensa" if installed and use_rensa is not False else "numpy"
        self._seed = seed % 2**63
        numbers = stream(self._seed, 2 * PERMUTATIONS) >> np.uint64(32)
        self._factors = numbers[:PERMUTATIONS].astype(np.uint32) | np.uint32(1)
        self._shifts = numbers[PERMUTATIONS:].astype(np.uint32)

    def empty(self, count: int) -> Sketches:
        """Room for the sketches of `count` texts."""
        return Sketches(np.zeros((count, PERMUTATIONS), np.uint8), np.zeros((self.bands, count), np.uint32))

    def sketch(self, texts: Sequence[str]) -> Sketches:
        """The sketches of bare, not empty texts."""
        if not texts:
            return self.empty(0)
        hashes, starts = gram_hashes(texts)
        minima = self._with_rensa(hashes, starts) if self.engine == "rensa" else self._with_numpy(hashes, starts)
        return Sketches((minima * _SPREAD >> np.uint32(24)).astype(np.uint8), self._keys(minima))

    def _with_numpy(self, hashes: Hashes, starts: NDArray[np.int64]) -> NDArray[np.uint32]:
        """[n, 128] minima of odd * hash + shift modulo 2**32; the hashes are well mixed already."""
        short = (hashes >> np.uint64(32)).astype(np.uint32)
        minima = np.empty((PERMUTATIONS, len(starts) - 1), np.uint32)
        for number in range(PERMUTATIONS):
            permuted = short * self._factors[number] + self._shifts[number]
            minima[number] = np.minimum.reduceat(permuted, starts[:-1])
        return np.ascontiguousarray(minima.T)

    def _with_rensa(self, hashes: Hashes, starts: NDArray[np.int64]) -> NDArray[np.uint32]:
        library = importlib.import_module("rensa")
        matrix = library.RMinHash.digest_matrix_from_flat_token_hashes(
            hashes, starts.astype(np.uint64), PERMUTATIONS, self._seed
        )
        return np.array(matrix.to_rows(), np.uint32)

    def _keys(self, minima: NDArray[np.uint32]) -> NDArray[np.uint32]:
        keys = np.empty((self.bands, len(minima)), np.uint32)
        for band in range(self.bands):
            joined = minima[:, band * self.rows].astype(np.uint64)
            for column in range(band * self.rows + 1, (band + 1) * self.rows):
                joined = combine(joined, minima[:, column].astype(np.uint64))
            keys[band] = joined >> np.uint64(32)
        return keys


def batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Runs of texts of about 130,000 characters together: enough for numpy, little enough for the cache."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= _BATCH_CHARS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
