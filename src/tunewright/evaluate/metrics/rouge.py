"""ROUGE-1, -2 and -L (Lin 2004) as F1 of clipped counts, for Chinese and English alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tunewright.core.scoring import Measured, Sample, mean_of_rows
from tunewright.evaluate.config import RougeOptions
from tunewright.evaluate.metrics.characters import tokens
from tunewright.evaluate.rows import applying, matches

VERSION = 1
SIGNATURE = "f1|counts:clipped|tokens:[a-z0-9]+,han,letters,symbol|stem:no|mean:rows|order:min(n,shorter)"


class Rouge:
    """`rouge1`, `rouge2`, `rougeL`, 0 to 100, mean over rows."""

    def __init__(self, options: RougeOptions) -> None:
        self.options = options

    @staticmethod
    def metric_keys(options: RougeOptions) -> list[str]:
        """Flat keys that `measure` produces."""
        return ["rouge1", "rouge2", "rougeL"]

    def applies(self, metadata: Mapping[str, Any]) -> bool:
        """Whether a row with this metadata is scored."""
        return matches(metadata, self.options.where)

    def measure(self, samples: Sequence[Sample]) -> list[Measured]:
        """Scores the samples that apply; none at all gives an empty list. An empty prediction scores 0."""
        rows = applying(samples, self.applies)
        if not rows:
            return []
        pairs = [(tokens(row.prediction), tokens(row.reference)) for row in rows]
        signature = f"{SIGNATURE}|empty:{sum(not predicted for predicted, _ in pairs)}"
        scores = {
            "rouge1": [rouge_n(*pair, order=1) for pair in pairs],
            "rouge2": [rouge_n(*pair, order=2) for pair in pairs],
            "rougeL": [rouge_l(*pair) for pair in pairs],
        }
        return [
            Measured(key, VERSION, np.array(values)[:, None], mean_of_rows, unit="points", signature=signature)
            for key, values in scores.items()
        ]


def rouge_n(predicted: Sequence[str], reference: Sequence[str], *, order: int) -> float:
    """100 F1 of n-grams, each counted at most as often as the other text has it. Texts shorter than `order` are
    compared at their own length, so that identical texts score 100 at any length."""
    order = min(order, len(predicted), len(reference))
    if order == 0:
        return 0.0
    ours, theirs = _grams(predicted, order), _grams(reference, order)
    return _f1((ours & theirs).total(), ours.total(), theirs.total())


def rouge_l(predicted: Sequence[str], reference: Sequence[str]) -> float:
    """100 F1 of the longest common subsequence."""
    return _f1(common_subsequence(predicted, reference), len(predicted), len(reference))


def _grams(words: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[start : start + order]) for start in range(len(words) - order + 1))


def _f1(common: int, predicted: int, reference: int) -> float:
    return 200 * common / (predicted + reference) if common else 0.0


def common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence, one big-integer step a token (Hyyrö 2004, bit-parallel LCS)."""
    places: dict[str, int] = {}
    for index, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << index
    full = (1 << len(first)) - 1
    unmatched = full
    for word in second:
        hits = unmatched & places.get(word, 0)
        unmatched = (unmatched + hits | unmatched - hits) & full
    return len(first) - unmatched.bit_count()
