"""Runs of words or Han characters of other sets that training rows hold as well: in the same pass over the training
rows as everything else, while there are few enough of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from tunewright.data.duplicates.components import Rows
from tunewright.data.duplicates.hashing import Hashes
from tunewright.data.splits.documents import Document, batched
from tunewright.data.splits.ngrams import batch_hashes
from tunewright.data.splits.shared import NONE, FirstSeen


class Overlap:
    """The n-grams of the other sets, as many as `most` at once, a row never in two parts; what is more than that takes
    another pass over the training rows, in `rest`. First all rows are added, then training rows are seen."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = self._first_left = 0
        self._held = _Held()
        self._seen: FirstSeen | None = None

    def add(self, texts: Sequence[str]) -> None:
        """The next rows of the other sets."""
        if self._first_left == self._count and self._held.size <= self._most:
            self._held.add(texts, self._count)
            self._first_left += len(texts)
        self._count += len(texts)

    def see(self, texts: Sequence[str], start: int) -> None:
        """Training rows from number `start` on."""
        if not self._held.size:
            return
        if self._seen is None:
            self._seen = FirstSeen(self._held.hashes())
        for hashes, rows in batch_hashes(texts):
            self._seen.see(hashes, rows + start)

    def rest(self, train: Iterable[Document], others: Mapping[str, Iterable[Document]]) -> Rows:
        """The first training row that shares an n-gram, for each row of the other sets."""
        found = np.full(self._count, NONE, np.int64)
        self._settle(found)
        if self._first_left == self._count:
            return found
        row = 0
        for batch in (batch for rows in others.values() for batch in batched(rows)):
            if row >= self._first_left:
                self._held.add([one.text for one in batch], row)
            row += len(batch)
            if self._held.size > self._most or row == self._count:
                self._pass(train, found)
        return found

    def _pass(self, train: Iterable[Document], found: Rows) -> None:
        """A pass over the training rows for what is held."""
        start = 0
        for batch in batched(train):
            self.see([one.text for one in batch], start)
            start += len(batch)
        self._settle(found)

    def _settle(self, found: Rows) -> None:
        """Writes down what was seen of the rows that are held, and lets go of them."""
        if self._seen is not None:
            first, owners = self._seen.rows(), self._held.owners()
            met = np.flatnonzero(first != NONE)[::-1]
            found[owners[met]] = first[met]  # of several writes the last holds: the row's first n-gram
        self._held, self._seen = _Held(), None


class _Held:
    """N-grams with the number of the row of each."""

    def __init__(self) -> None:
        self.size = 0
        self._hashes: list[Hashes] = [np.empty(0, np.uint64)]
        self._owners: list[Rows] = [np.empty(0, np.int64)]

    def add(self, texts: Sequence[str], start: int) -> None:
        for hashes, rows in batch_hashes(texts):
            self._hashes.append(hashes)
            self._owners.append(rows + start)
            self.size += len(hashes)

    def hashes(self) -> Hashes:
        return np.concatenate(self._hashes)

    def owners(self) -> Rows:
        return np.concatenate(self._owners)
