"""Connected components of rows, joined pair by pair: what stays together as one cluster."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


class Components:
    """Rows 0..count-1, each alone at first. A component's root is its lowest row. Eight bytes a row."""

    def __init__(self, count: int) -> None:
        self._parents: Rows = np.arange(count, dtype=np.int64)

    def find(self, rows: Rows) -> Rows:
        """The roots of `rows`."""
        roots = self._parents[rows]
        while True:
            above = self._parents[roots]
            if np.array_equal(above, roots):
                self._parents[rows] = roots
                return roots
            roots = above

    def join(self, left: Rows, right: Rows) -> None:
        """Joins left[i] and right[i] for every i."""
        while True:
            one, other = self.find(left), self.find(right)
            apart = one != other
            if not apart.any():
                return
            left, right = left[apart], right[apart]
            low, high = np.minimum(one[apart], other[apart]), np.maximum(one[apart], other[apart])
            self._parents[high] = low
            self._flatten(high)

    def _flatten(self, rows: Rows) -> None:
        """Halves every path until all of `rows` point at their roots: a chain of n takes log2(n) rounds, not n."""
        while True:
            parents = self._parents[rows]
            above = self._parents[parents]
            if np.array_equal(above, parents):
                return
            self._parents[rows] = above

    def groups(self) -> list[Rows]:
        """Every component as ascending rows, by its lowest row."""
        roots = self.find(np.arange(len(self._parents), dtype=np.int64))
        order = np.argsort(roots, kind="stable")
        borders = np.flatnonzero(np.diff(roots[order])) + 1
        return np.split(order, borders) if len(order) else []
