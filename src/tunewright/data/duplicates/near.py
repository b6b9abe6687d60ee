"""Near duplicates: clusters of rows whose texts share most of their character 5-grams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunewright.data.duplicates.components import Rows
from tunewright.data.duplicates.hashing import text_hashes
from tunewright.data.duplicates.minhash import Sketcher, Sketches, batches
from tunewright.data.duplicates.search import Exact, Found, Search, Texts
from tunewright.data.duplicates.text import comparable
from tunewright.data.findings import EXCERPT_CHARS, Rejection, excerpt, printable

LARGEST = 5
"""Clusters that the report shows."""


@dataclass(frozen=True, slots=True)
class Twin:
    """An earlier row of the same cluster and the exact Jaccard similarity with it: at least the threshold, or the
    similarity with the representative where the row is linked through later rows only."""

    row: int
    jaccard: float


@dataclass(frozen=True)
class NearDuplicates:
    """Clusters of two rows or more, ascending, by their lowest row, the representative.

    twins: of every other row of a cluster. estimated: pairs whose sketches were compared; verified: whose texts were
    compared exactly; near: of those at or above the threshold; identical: rows whose bare text stands in an earlier
    row; bounded: rows of which not all likely pairs were compared (see `search`).
    """

    rows: int
    threshold: float
    engine: str
    clusters: tuple[tuple[int, ...], ...]
    twins: dict[int, Twin]
    estimated: int
    verified: int
    near: int
    identical: int
    bounded: int

    def cluster_of(self) -> dict[int, int]:
        """The representative of every row that stands in a cluster."""
        return {row: cluster[0] for cluster in self.clusters for row in cluster}

    def rejection(self, row: int, ids: Sequence[str], text: str) -> Rejection:
        """Why `row`, which has a twin, is a near duplicate. ids: of all rows; text: its own."""
        twin = self.twins[row]
        if twin.jaccard >= self.threshold:
            reason = f"nearly the same as {ids[twin.row]}: Jaccard {twin.jaccard:.2f}, threshold {self.threshold:g}"
        else:
            reason = (
                f"linked to {ids[twin.row]} through later rows of its cluster: Jaccard with it {twin.jaccard:.2f}, "
                f"threshold {self.threshold:g} from row to row"
            )
        return Rejection("NEAR_DUPLICATE", reason, excerpt(text))

    def dump(self, texts: Texts, ids: Sequence[str], *, largest: int = LARGEST) -> dict[str, Any]:
        """The part of report.json on near duplicates, with the `largest` clusters by two rows each."""
        by_size = sorted(self.clusters, key=lambda cluster: (-len(cluster), cluster[0]))[:largest]
        return {
            "threshold": self.threshold,
            "engine": self.engine,
            "rows": self.rows,
            "clusters": len(self.clusters),
            "duplicates": len(self.twins),
            "identical": self.identical,
            "pairs_estimated": self.estimated,
            "pairs_verified": self.verified,
            "pairs_near": self.near,
            "rows_bounded": self.bounded,
            "largest": [self._shown(cluster, texts, ids) for cluster in by_size],
        }

    def _shown(self, cluster: tuple[int, ...], texts: Texts, ids: Sequence[str]) -> dict[str, Any]:
        first, second = cluster[0], cluster[1]
        return {
            "rows": len(cluster),
            "first": ids[first],
            "second": ids[second],
            "jaccard": round(self.twins[second].jaccard, 4),
            "first_excerpt": printable(texts[first][: 2 * EXCERPT_CHARS]),
            "second_excerpt": printable(texts[second][: 2 * EXCERPT_CHARS]),
        }


def find_near(texts: Texts, *, threshold: float = 0.7, seed: int, use_rensa: bool | None = None) -> NearDuplicates:
    """The clusters of `texts` (see `conversation_text`): connected components of pairs with an exact Jaccard
    similarity of their 5-grams of at least `threshold` (0.3 to 1).

    Of the pairs one sixth above the threshold (0.75 for 0.7) 99.5 % or more are met; a pair below the threshold is
    never one. Texts without a letter, digit or symbol are in no cluster. Memory: about 350 bytes a row at 0.7.
    """
    sketcher = Sketcher(threshold=threshold, seed=seed, use_rensa=use_rensa)
    sketches, hashes, filled = _sketched(texts, sketcher)
    _, first, group = np.unique(hashes[filled], return_index=True, return_inverse=True)
    firsts = filled[first][group] if len(filled) else filled
    repeated = filled != firsts
    search = Search(texts, sketches, filled[~repeated], threshold=threshold)
    found = search.run()
    found.components.join(firsts[repeated], filled[repeated])
    found.twin[filled[repeated]], found.similarity[filled[repeated]] = firsts[repeated], 1
    clusters = tuple(tuple(rows.tolist()) for rows in found.components.groups() if len(rows) > 1)
    return NearDuplicates(
        rows=len(texts),
        threshold=threshold,
        engine=sketcher.engine,
        clusters=clusters,
        twins=_twins(search.exact, clusters, found),
        estimated=found.estimated,
        verified=found.verified,
        near=found.near,
        identical=int(repeated.sum()),
        bounded=int(found.bounded.sum()),
    )


def _sketched(texts: Texts, sketcher: Sketcher) -> tuple[Sketches, np.ndarray[Any, np.dtype[np.uint64]], Rows]:
    """Sketches and hashes of all texts (zero where a text is empty) and the rows that are not."""
    sketches = sketcher.empty(len(texts))
    hashes = np.zeros(len(texts), np.uint64)
    filled: list[Rows] = []
    start = 0
    for batch in batches(comparable(text) for text in texts):
        rows = start + np.flatnonzero([bool(text) for text in batch])
        bare = [text for text in batch if text]
        sketches.put(rows, sketcher.sketch(bare))
        hashes[rows] = text_hashes(bare)
        filled.append(rows)
        start += len(batch)
    return sketches, hashes, np.concatenate(filled) if filled else np.empty(0, np.int64)


def _twins(exact: Exact, clusters: tuple[tuple[int, ...], ...], found: Found) -> dict[int, Twin]:
    """A row that was only compared with later rows gets its similarity with the representative."""
    twins: dict[int, Twin] = {}
    for cluster in clusters:
        for row in cluster[1:]:
            twin, value = int(found.twin[row]), float(found.similarity[row])
            if twin < 0:
                twin = cluster[0]
                value = float(exact.similarities(np.array([row]), np.array([twin]))[0])
            twins[row] = Twin(twin, round(value, 6))
    return twins
