"""Pairs among rows of one template, told apart by the grams that only a few of them have.

Hundreds of texts that are alike and yet not near meet in every band, where comparing all with all would be quadratic.
Here only pairs that share a rare gram are looked at. How many they share bounds their similarity from above, so few
are compared in vain. A pair of rows with enough rare grams each that shares none of them cannot be near: both being
above (1 - t) / (1 + t) of their grams, the overlap that is left is below t of the union (prefix filtering, Chaudhuri
et al. 2006, taken for both sides).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunewright.data.duplicates.components import Rows
from tunewright.data.duplicates.hashing import Hashes, gram_hashes
from tunewright.data.duplicates.minhash import batches
from tunewright.data.duplicates.text import comparable

RARE = 64
"""A gram that more rows have is not rare."""
_CELLS = 22
_PAIRS = 1 << 20


@dataclass(frozen=True)
class _Occurrences:
    """Rare grams that two rows or more have, by gram and then by row. grams, rare: of each row, counted."""

    hashes: Hashes
    rows: Rows
    grams: Rows
    rare: Rows


class RareGrams:
    """rows: numbers of texts that are told apart; read: gives a text."""

    def __init__(self, rows: Rows, read: Callable[[int], str], *, threshold: float) -> None:
        self._rows, self._read, self._threshold = rows, read, threshold
        self._found = self._occurrences()

    def undecided(self) -> Rows:
        """Rows with so few rare grams that another such row may be near without sharing one."""
        share = (1 - self._threshold) / (1 + self._threshold)
        return self._rows[self._found.rare <= share * self._found.grams]

    def _distinct(self) -> Iterator[tuple[Rows, Hashes]]:
        """(row, gram) of each batch of rows, every gram of a row once; rows counted from 0."""
        start = 0
        for batch in batches(comparable(self._read(row)) for row in self._rows.tolist()):
            hashes, starts = gram_hashes(batch)
            rows = np.repeat(np.arange(start, start + len(batch)), np.diff(starts))
            order = np.lexsort((hashes, rows))
            rows, hashes = rows[order], hashes[order]
            first = np.ones(len(rows), bool)
            first[1:] = (rows[1:] != rows[:-1]) | (hashes[1:] != hashes[:-1])
            yield rows[first], hashes[first]
            start += len(batch)

    def _occurrences(self) -> _Occurrences:
        """Grams are counted by cells of a table, so a rare one may pass for common, never the other way round."""
        table = np.zeros(1 << _CELLS, np.int32)
        shift = np.uint64(64 - _CELLS)
        for _, hashes in self._distinct():
            np.add.at(table, (hashes >> shift).astype(np.int64), 1)
        grams, rare = np.zeros(len(self._rows), np.int64), np.zeros(len(self._rows), np.int64)
        parts: list[tuple[Rows, Hashes]] = [(np.empty(0, np.int64), np.empty(0, np.uint64))]
        for rows, hashes in self._distinct():
            count = table[(hashes >> shift).astype(np.int64)]
            grams += np.bincount(rows, minlength=len(grams))
            rare += np.bincount(rows[count <= RARE], minlength=len(grams))
            shared = (count <= RARE) & (count > 1)
            parts.append((rows[shared], hashes[shared]))
        rows, hashes = (np.concatenate(side) for side in zip(*parts, strict=True))
        order = np.lexsort((rows, hashes))
        return _Occurrences(hashes[order], rows[order], grams, rare)

    def pairs(self) -> Iterator[tuple[Rows, Rows]]:
        """(row, later row) that share a rare gram and may reach the threshold, by the first, likeliest first."""
        rows, hashes = self._found.rows, self._found.hashes
        further = np.searchsorted(hashes, hashes, "right") - np.arange(len(hashes)) - 1
        by_row = np.argsort(rows, kind="stable")
        total = np.cumsum(further[by_row])
        start = 0
        while start < len(by_row):
            before = int(total[start - 1]) if start else 0
            stop = int(np.searchsorted(total, before + _PAIRS, "right"))
            row_end = int(np.searchsorted(rows[by_row], rows[by_row[max(stop - 1, start)]], "right"))
            yield self._likely(by_row[start:row_end], further)
            start = row_end

    def _likely(self, positions: Rows, further: Rows) -> tuple[Rows, Rows]:
        """The pairs of these occurrences with the later ones of the same gram."""
        counts = further[positions]
        ends = np.cumsum(counts)
        step = np.arange(ends[-1]) - np.repeat(ends - counts, counts) + 1
        left = np.repeat(positions, counts)
        rows, size = self._found.rows, len(self._rows)
        codes, shared = np.unique(rows[left] * size + rows[left + step], return_counts=True)
        one, other = codes // size, codes % size
        bound = self._highest(one, other, shared)
        likely = np.flatnonzero(bound >= self._threshold)
        likely = likely[np.argsort(-bound[likely], kind="stable")]
        return self._rows[one[likely]], self._rows[other[likely]]

    def _highest(self, one: Rows, other: Rows, shared: Rows) -> NDArray[np.float64]:
        """The similarity if all grams that are not rare were the same."""
        grams, common = self._found.grams, self._found.grams - self._found.rare
        overlap = shared + np.minimum(common[one], common[other])
        highest: NDArray[np.float64] = overlap / (grams[one] + grams[other] - overlap) + 1e-12
        return highest
