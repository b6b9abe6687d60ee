"""Texts as rows of numbers: TF-IDF of words, word pairs and character n-grams. numpy alone.

Words of Latin and most other letters count whole, in pairs, and by their n-grams of 3 to 5 characters with a blank at
each edge (scikit-learn's `char_wb`); a Han character is a word, so pairs of them are words of two characters, and runs
of three count as well. Weights: (1 + ln count) * (ln((1 + n) / (1 + rows with it)) + 1), rows scaled to length 1.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from tunewright.core.text.fold import fold
from tunewright.evaluate.rivals.logistic import Dense, Floats32, Sparse

VERSION = 1
ORDERS = (3, 4, 5)
_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_HAN}]|[^\W_{_HAN}]+")
_RUN = re.compile(rf"[{_HAN}]{{3,}}")


def grams(text: str) -> list[str]:
    """Everything that is counted in a text."""
    folded = fold(text).text.casefold()
    words = _WORD.findall(folded)
    found = [*words, *(f"{first} {second}" for first, second in pairwise(words))]
    for word in words:
        edged = f" {word} "
        if len(word) > 1:
            found += [f"_{edged[at : at + size]}" for size in ORDERS for at in range(len(edged) - size + 1)]
    found += [f"_{run[at : at + 3]}" for run in _RUN.findall(folded) for at in range(len(run) - 2)]
    return found


class TfidfFeatures:
    """Learns its vocabulary from the training texts; what it has not seen there counts nothing."""

    def __init__(self, *, min_rows: int) -> None:
        self._min_rows = min_rows
        self._place: dict[str, int] = {}
        self._weights: Floats32 = np.zeros(0, np.float32)

    def learn(self, texts: Sequence[str]) -> Sparse:
        """The rows of the training texts."""
        counted = [Counter(grams(text)) for text in texts]
        rows_with = Counter(gram for counts in counted for gram in counts)
        kept = sorted(gram for gram, rows in rows_with.items() if rows >= self._min_rows) or sorted(rows_with)
        self._place = {gram: index for index, gram in enumerate(kept)}
        self._weights = np.array(
            [np.log((1 + len(texts)) / (1 + rows_with[gram])) + 1 for gram in kept], dtype=np.float32
        )
        return self._rows(counted)

    def rows(self, texts: Sequence[str]) -> Sparse:
        """The rows of other texts."""
        return self._rows([Counter(grams(text)) for text in texts])

    def _rows(self, counted: Sequence[Counter[str]]) -> Sparse:
        columns, values, starts = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)], [0]
        for counts in counted:
            known = [(self._place[gram], count) for gram, count in counts.items() if gram in self._place]
            where = np.array([place for place, _ in known], dtype=np.int64)
            weight = (1 + np.log(np.array([count for _, count in known], dtype=np.float32))) * self._weights[where]
            columns.append(where)
            values.append(weight / max(float(np.linalg.norm(weight)), 1e-12))
            starts.append(starts[-1] + len(known))
        return Sparse(np.concatenate(columns), np.concatenate(values), np.array(starts), len(self._place))


class CentredFeatures:
    """Vectors less the mean of the training vectors, scaled to length 1: embeddings of one model share a direction that
    tells nothing."""

    def __init__(self) -> None:
        self._mean: Floats32 = np.zeros(0, np.float32)

    def learn(self, vectors: Floats32) -> Dense:
        """[n, width] of the training texts."""
        self._mean = vectors.mean(0)
        return self.rows(vectors)

    def rows(self, vectors: Floats32) -> Dense:
        """[n, width] of other texts."""
        centred = vectors - self._mean
        lengths = np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
        return Dense(centred / lengths)
