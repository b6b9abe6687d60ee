"""What rows of other sets share with training rows, found while the training rows stream by: memory goes with the
other sets, which are the smaller ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tunewright.data.duplicates.components import Rows
from tunewright.data.duplicates.hashing import Hashes
from tunewright.data.duplicates.minhash import Sketcher, Sketches, doubtful, fewest_matches

NONE = -1
NEIGHBOURS = 32
"""Rows of the other sets that a training row is compared with in one bucket."""
CANDIDATES = 4
"""Training rows, by estimate, that are compared exactly with a row of another set."""
_PENDING = 1 << 19


class FirstSeen:
    """For many hashes, repeats included, the first training row that has each. About 25 bytes a hash."""

    def __init__(self, hashes: Hashes) -> None:
        self._known, self._position = np.unique(hashes, return_inverse=True)
        self._first = np.full(len(self._known), NONE, np.int64)
        bits = max(10, len(hashes).bit_length() + 3)
        self._shift = np.uint64(64 - bits)
        self._there = np.zeros(1 << bits, bool)  # most hashes that are not known end here, after one look
        self._there[self._known >> self._shift] = True

    def see(self, hashes: Hashes, rows: Rows) -> None:
        """Training rows[i], ascending, has hashes[i]."""
        likely = self._there[hashes >> self._shift]
        hashes, rows = hashes[likely], rows[likely]
        if not len(hashes):
            return
        position = np.minimum(np.searchsorted(self._known, hashes), len(self._known) - 1)
        met = (self._known[position] == hashes) & (self._first[position] == NONE)
        self._first[position[met][::-1]] = rows[met][::-1]  # of several writes the last holds: the lowest row

    def rows(self) -> Rows:
        """The training row for each hash that was given, -1 where none has it."""
        return self._first[self._position]


class Candidates:
    """Training rows whose sketches are near those of rows of the other sets."""

    def __init__(self, sketcher: Sketcher, threshold: float) -> None:
        self._sketcher = sketcher
        self._least = fewest_matches(doubtful(threshold))
        self._rows: list[Rows] = []
        self._parts: list[Sketches] = []
        self._pending: list[NDArray[np.int64]] = []
        self._waiting = 0

    def add(self, rows: Rows, bare: Sequence[str]) -> None:
        """The rows of other sets to look for; their texts are not empty."""
        self._rows.append(rows)
        self._parts.append(self._sketcher.sketch(bare))

    def freeze(self) -> None:
        """Every row was added."""
        self._names = np.concatenate([np.empty(0, np.int64), *self._rows])
        parts = [self._sketcher.empty(0), *self._parts]
        self._sketches = Sketches(
            np.concatenate([part.marks for part in parts]), np.concatenate([part.keys for part in parts], axis=1)
        )
        self._rows, self._parts = [], []
        self._order = np.argsort(self._sketches.keys, axis=1, kind="stable").astype(np.int32)
        self._sketches.keys.sort(axis=1)

    def see(self, rows: Rows, bare: Sequence[str]) -> None:
        """Training rows with their texts, none empty."""
        part = self._sketcher.sketch(bare)
        for band in range(self._sketcher.bands):
            train, other = self._met(part, band)
            matches = np.count_nonzero(part.marks[train] == self._sketches.marks[other], axis=1)
            likely = matches >= self._least
            found = np.stack([other[likely], rows[train[likely]], matches[likely]])
            self._pending.append(found)
            self._waiting += found.shape[1]
        if self._waiting > _PENDING:
            self._pending = [self._best()]
            self._waiting = 0

    def _met(self, part: Sketches, band: int) -> tuple[Rows, Rows]:
        """Pairs of a bucket: (position in part, row of the other sets); of a large bucket another piece each time."""
        keys = self._sketches.keys[band]
        low = np.searchsorted(keys, part.keys[band], "left")
        size = np.searchsorted(keys, part.keys[band], "right") - low
        taken = np.minimum(size, NEIGHBOURS)
        train = np.repeat(np.arange(len(size)), taken)
        ends = np.cumsum(taken)
        step = np.arange(len(train)) - np.repeat(ends - taken, taken)
        turn = (step + train * NEIGHBOURS) % np.maximum(size, 1)[train]
        return train, self._order[band][low[train] + turn].astype(np.int64)

    def _best(self) -> NDArray[np.int64]:
        """[3, n] (other, train, matches): the nearest training rows of each other row."""
        other, train, matches = np.concatenate([np.empty((3, 0), np.int64), *self._pending], axis=1)
        order = np.lexsort((train, -matches, other))
        other, train, matches = other[order], train[order], matches[order]
        again = np.zeros(len(other), bool)
        again[1:] = (other[1:] == other[:-1]) & (train[1:] == train[:-1])
        other, train, matches = other[~again], train[~again], matches[~again]
        starts = np.searchsorted(other, other, "left")
        best = np.arange(len(other)) - starts < CANDIDATES
        return np.stack([other[best], train[best], matches[best]])

    def pairs(self) -> tuple[Rows, Rows]:
        """(row of another set, training row) to compare exactly."""
        other, train, _ = self._best()
        return self._names[other], train
