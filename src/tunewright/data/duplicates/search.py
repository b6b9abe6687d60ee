"""From sketches to pairs that really are near, without ever comparing all rows of a template with each other.

Pairs that meet in a band are estimated from their sketches, and those that may reach the threshold are compared
exactly. Clusters are connected components, so pairs that are connected already are skipped; that keeps a thousand
variants of one template at about a thousand comparisons and changes no cluster. Variants that are alike and yet not
near would still be compared all with all: WINDOW and PATIENCE end that, and `rare` looks for the pairs among them in
another way. Rows for which that is not certain to find every pair either are counted as `bounded`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from tunewright.data.duplicates.components import Components, Rows
from tunewright.data.duplicates.hashing import Points, points
from tunewright.data.duplicates.minhash import PERMUTATIONS, Sketches, doubtful, fewest_matches
from tunewright.data.duplicates.pairs import packed_similarities
from tunewright.data.duplicates.rare import RareGrams
from tunewright.data.duplicates.text import comparable, grams, jaccard

WINDOW = 64
"""In a band a row is compared with this many of its neighbours; smaller buckets are compared whole."""
PATIENCE = 16
"""A pair is no longer compared once both of its rows failed this many exact comparisons."""
_ESTIMATED = 1 << 14
_VERIFIED = 1 << 10
_KEPT_GRAMS = 300_000
_KEPT_POINTS = 2_000_000
_BATCH_POINTS = 1 << 17
_WORTH = 4
"""Pairs from which comparing them at once pays."""
ValueT = TypeVar("ValueT")


class Texts(Protocol):
    """What is searched: texts that can be read in order and one by one, in memory or on disk."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[str]: ...

    def __getitem__(self, row: int, /) -> str: ...


@dataclass
class Found:
    """What the search keeps. twin: an earlier row that is near, -1 where none; similarity: their exact Jaccard."""

    components: Components
    twin: Rows
    similarity: NDArray[np.float32]
    bounded: NDArray[np.bool_]
    failed: NDArray[np.uint8]
    estimated: int = 0
    verified: int = 0
    near: int = field(default=0)

    @classmethod
    def of(cls, count: int) -> Found:
        """Nothing found yet among `count` rows."""
        return cls(
            components=Components(count),
            twin=np.full(count, -1, np.int64),
            similarity=np.zeros(count, np.float32),
            bounded=np.zeros(count, bool),
            failed=np.zeros(count, np.uint8),
        )


class Search:
    """Looks for near pairs among `rows` (ascending, all with a text). sketches: of all texts."""

    def __init__(self, texts: Texts, sketches: Sketches, rows: Rows, *, threshold: float) -> None:
        self._texts, self._sketches, self._rows, self._threshold = texts, sketches, rows, threshold
        self.found = Found.of(len(texts))
        self.exact = Exact(texts)
        self._left = np.ones(len(texts), bool)

    def run(self) -> Found:
        """Estimates at or above the threshold first, so that doubtful pairs cannot use up a row's patience."""
        sure, least = fewest_matches(self._threshold), fewest_matches(doubtful(self._threshold))
        for band in range(len(self._sketches.keys)):
            self._band(band, sure, PERMUTATIONS + 1)
        self._left = ~self.found.bounded  # of the others, doubtful pairs are the business of `rare`
        for band in range(len(self._sketches.keys)) if least < sure else ():
            self._band(band, least, sure)
        if self.found.bounded.any():
            self._apart_by_rare_grams()
        return self.found

    def _apart_by_rare_grams(self) -> None:
        """For the rows that the bands could not finish; each gets new patience."""
        rare = RareGrams(np.flatnonzero(self.found.bounded), self._texts.__getitem__, threshold=self._threshold)
        self.found.bounded[:] = False
        self.found.failed[:] = 0
        self._left[:] = True
        for left, right in rare.pairs():
            for begin in range(0, len(left), _VERIFIED):
                self._verify(*self._patient(left[begin : begin + _VERIFIED], right[begin : begin + _VERIFIED]))
        undecided = rare.undecided()
        if len(np.unique(self.found.components.find(undecided))) > 1:  # those of one cluster can gain no pair
            self.found.bounded[undecided] = True

    def _band(self, band: int, low: int, high: int) -> None:
        """Every bucket of a band at once: in the order of their keys, rows of a bucket stand side by side."""
        keys = self._sketches.keys[band][self._rows]
        following = self._sketches.keys[(band + 1) % len(self._sketches.keys)][self._rows]
        by_key = np.lexsort((following, keys))  # the next band's key brings the nearest of a large bucket together
        keys, rows = keys[by_key], self._rows[by_key]
        starts = np.concatenate([[True], keys[1:] != keys[:-1]]) if len(keys) else np.empty(0, bool)
        shared = ~(starts & np.append(starts[1:], True))
        rows, buckets = rows[shared], np.cumsum(starts[shared]) - 1
        active = np.arange(len(rows))
        for step in range(1, WINDOW + 1):
            active = active[active + step < len(rows)]
            active = active[buckets[active] == buckets[active + step]]
            if step & (step - 1) == 0:
                active = active[~self._whole(rows, buckets)[buckets[active]]] if len(active) else active
            if not len(active):
                return
            self._compare(rows[active], rows[active + step], band, low, high)
        overfull = np.bincount(buckets) > WINDOW + 1
        self.found.bounded[rows[(overfull & ~self._whole(rows, buckets))[buckets]]] = True

    def _whole(self, rows: Rows, buckets: Rows) -> NDArray[np.bool_]:
        """[buckets] True where all rows of the bucket are one component."""
        roots = self.found.components.find(rows)
        starts = np.flatnonzero(np.concatenate([[True], buckets[1:] != buckets[:-1]]))
        whole: NDArray[np.bool_] = np.minimum.reduceat(roots, starts) == np.maximum.reduceat(roots, starts)
        return whole

    def _compare(self, left: Rows, right: Rows, band: int, low: int, high: int) -> None:
        for start in range(0, len(left), _ESTIMATED):
            one, other = left[start : start + _ESTIMATED], right[start : start + _ESTIMATED]
            one, other = self._apart(one, other)
            matches = self._sketches.matches(one, other)
            self.found.estimated += len(one)
            likely = (matches >= low) & (matches < high)
            likely[likely] = ~self._met_before(one[likely], other[likely], band)
            one, other = one[likely], other[likely]
            for begin in range(0, len(one), _VERIFIED):
                self._verify(*self._patient(one[begin : begin + _VERIFIED], other[begin : begin + _VERIFIED]))

    def _apart(self, left: Rows, right: Rows) -> tuple[Rows, Rows]:
        apart = self.found.components.find(left) != self.found.components.find(right)
        apart &= self._left[left] | self._left[right]
        return left[apart], right[apart]

    def _met_before(self, left: Rows, right: Rows, band: int) -> NDArray[np.bool_]:
        """Pairs that an earlier band has compared; of rows with bounded buckets nobody knows."""
        earlier = self._sketches.keys[:band]
        met: NDArray[np.bool_] = (earlier[:, left] == earlier[:, right]).any(axis=0)
        return met & ~(self.found.bounded[left] | self.found.bounded[right])

    def _patient(self, left: Rows, right: Rows) -> tuple[Rows, Rows]:
        left, right = self._apart(left, right)
        failed = self.found.failed
        spent = (failed[left] >= PATIENCE) & (failed[right] >= PATIENCE)
        self.found.bounded[left[spent]] = self.found.bounded[right[spent]] = True
        return left[~spent], right[~spent]

    def _verify(self, left: Rows, right: Rows) -> None:
        """Compares exactly; joins the pairs that are near."""
        if not len(left):
            return
        similar = self.exact.similarities(left, right)
        near = similar >= self._threshold
        self.found.verified += len(left)
        self.found.near += int(near.sum())
        np.add.at(self.found.failed, np.concatenate([left[~near], right[~near]]), 1)
        np.minimum(self.found.failed, 2 * PATIENCE, out=self.found.failed)
        self.found.components.join(left[near], right[near])
        self._remember(left[near], right[near], similar[near])

    def _remember(self, left: Rows, right: Rows, similar: NDArray[np.float64]) -> None:
        """The nearest earlier row of each later one."""
        for first, second, value in zip(left.tolist(), right.tolist(), similar.tolist(), strict=True):
            earlier, later = min(first, second), max(first, second)
            if value > self.found.similarity[later]:
                self.found.twin[later], self.found.similarity[later] = earlier, value


class Exact:
    """Exact similarities of `texts`; what was read last of them is kept, at most some 40 MB.

    fast: many pairs are compared at once where `pairs` can; False compares each by itself.
    """

    def __init__(self, texts: Texts, *, fast: bool = True) -> None:
        self._texts, self._fast = texts, fast
        self._grams: _Kept[frozenset[str]] = _Kept(_KEPT_GRAMS)
        self._points: _Kept[Points] = _Kept(_KEPT_POINTS)

    def similarities(self, left: Rows, right: Rows) -> NDArray[np.float64]:
        """The Jaccard similarity of the rows left[i] and right[i]: [pairs]; no text of theirs is empty."""
        one, other = left.tolist(), right.tolist()
        if not self._fast:
            return self._one_by_one(one, other)
        return np.concatenate([np.empty(0), *(self._at_once(*batch) for batch in self._batches(one, other))])

    def _one_by_one(self, left: list[int], right: list[int]) -> NDArray[np.float64]:
        pairs = zip(left, right, strict=True)
        return np.array([jaccard(self._grams_of(one), self._grams_of(other)) for one, other in pairs], np.float64)

    def _at_once(self, left: list[int], right: list[int]) -> NDArray[np.float64]:
        similar = None
        if len(left) >= _WORTH:
            similar = packed_similarities([self._text(row) for row in left], [self._text(row) for row in right])
        return self._one_by_one(left, right) if similar is None else similar

    def _batches(self, left: list[int], right: list[int]) -> Iterator[tuple[list[int], list[int]]]:
        """Pairs whose texts are short together."""
        start = size = 0
        for place, pair in enumerate(zip(left, right, strict=True), start=1):
            size += sum(len(self._text(row)) for row in pair)
            if size > _BATCH_POINTS or place == len(left):
                yield left[start:place], right[start:place]
                start, size = place, 0

    def _text(self, row: int) -> Points:
        found = self._points.known.get(row)
        if found is None:
            found = points(comparable(self._texts[row]))
            self._points.put(row, found, len(found))
        return found

    def _grams_of(self, row: int) -> frozenset[str]:
        found = self._grams.known.get(row)
        if found is None:
            found = grams(comparable(self._texts[row]))
            self._grams.put(row, found, len(found))
        return found


class _Kept(Generic[ValueT]):
    """Values by row; all are forgotten when they are too large together."""

    def __init__(self, most: int) -> None:
        self.known: dict[int, ValueT] = {}
        self._most, self._size = most, 0

    def put(self, row: int, value: ValueT, size: int) -> None:
        if self._size > self._most:
            self.known.clear()
            self._size = 0
        self.known[row] = value
        self._size += size
