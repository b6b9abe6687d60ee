"""chrF2 (Popović 2015) equal to sacrebleu's, with statistics a row so that it can be resampled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tunewright.core.scoring import Floats, Measured, Sample
from tunewright.evaluate.metrics.options import ChrfOptions
from tunewright.evaluate.rows import applying, empty_answers, matches

VERSION = 1
ORDER = 6
BETA2 = 4.0
SIGNATURE = "nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|beta:2"


class Chrf:
    """`chrf`, 0 to 100, over the whole corpus."""

    def __init__(self, options: ChrfOptions) -> None:
        self.options = options

    @staticmethod
    def metric_keys(options: ChrfOptions) -> list[str]:
        """Flat keys that `measure` produces."""
        return ["chrf"]

    def applies(self, metadata: Mapping[str, Any]) -> bool:
        """Whether a row with this metadata is scored."""
        return matches(metadata, self.options.where)

    def measure(self, samples: Sequence[Sample]) -> list[Measured]:
        """Scores the samples that apply; none at all gives an empty list. An empty prediction matches nothing."""
        rows = applying(samples, self.applies)
        if not rows:
            return []
        statistics = np.array([gram_counts(row.prediction, row.reference) for row in rows], dtype=float)
        signature = f"{SIGNATURE}|empty:{empty_answers(rows)}"
        return [Measured("chrf", VERSION, statistics, corpus_chrf, unit="points", signature=signature)]


def gram_counts(prediction: str, reference: str) -> list[int]:
    """18 numbers: for each order 1 to 6 the n-grams of the prediction, of the reference, and those in both. White
    space is left out; n-grams of the prediction do not count at an order at which the reference has none."""
    ours, theirs = "".join(prediction.split()), "".join(reference.split())
    counts = []
    for order in range(1, ORDER + 1):
        said, wanted = max(0, len(ours) - order + 1), max(0, len(theirs) - order + 1)
        common = _common(_grams(ours, order), _grams(theirs, order)) if said and wanted else 0
        counts += [said if wanted else 0, wanted, common]
    return counts


def _grams(text: str, order: int) -> Counter[str]:
    return Counter([text[start : start + order] for start in range(len(text) - order + 1)])


def _common(first: Counter[str], second: Counter[str]) -> int:
    """Size of the multiset intersection; quicker than (first & second).total()."""
    both = first.keys() & second.keys()
    return sum([min(first[gram], second[gram]) for gram in both])


def corpus_chrf(statistics: Floats) -> Floats:
    """The score of each resample: [R, n, 18] -> [R]. Precision and recall are averaged over the orders at which both
    sides have n-grams (effective order), then combined."""
    sums = statistics.sum(axis=1).reshape(len(statistics), ORDER, 3)
    said, wanted, common = sums[..., 0], sums[..., 1], sums[..., 2]
    used = (said > 0) & (wanted > 0)
    orders = np.maximum(used.sum(axis=1), 1)
    precision = (used * common / np.maximum(said, 1)).sum(axis=1) / orders
    recall = (used * common / np.maximum(wanted, 1)).sum(axis=1) / orders
    below = BETA2 * precision + recall
    scores: Floats = 100 * (1 + BETA2) * precision * recall / np.where(below > 0, below, 1)
    return scores
