"""The numbers LLaMA-Factory prints after `do_predict` (its `ComputeSimilarity`), for comparison with old runs only.

BLEU-4 is nltk's sentence BLEU over characters with smoothing method 3: identical texts of two characters score 59.5.
ROUGE is rouge-chinese over jieba words, which counts each n-gram once: a right answer pasted four times scores 100.
Use `bleu` and `rouge` to judge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from tunewright.core.scoring import Measured, Sample, mean_of_rows
from tunewright.evaluate.metrics.options import CompatOptions
from tunewright.evaluate.metrics.rouge import common_subsequence
from tunewright.evaluate.rows import applying, matches

VERSION = 1
BLEU_SIGNATURE = "as LLaMA-Factory|nltk sentence BLEU|characters|order:4|smooth:method3|mean:rows"
ROUGE_SIGNATURE = "as LLaMA-Factory|rouge-chinese|jieba words|n-grams counted once|mean:rows"


class Compat:
    """`compat.bleu4`; `compat.rouge1`, `compat.rouge2`, `compat.rougeL` where jieba is installed; 0 to 100."""

    def __init__(self, options: CompatOptions) -> None:
        self.options = options

    @staticmethod
    def metric_keys(options: CompatOptions) -> list[str]:
        """Flat keys that `measure` produces."""
        rouge = ["compat.rouge1", "compat.rouge2", "compat.rougeL"] if find_spec("jieba") else []
        return ["compat.bleu4", *rouge]

    def applies(self, metadata: Mapping[str, Any]) -> bool:
        """Whether a row with this metadata is scored."""
        return matches(metadata, self.options.where)

    def measure(self, samples: Sequence[Sample]) -> list[Measured]:
        """Scores the samples that apply; none at all gives an empty list. Each row is rounded to 4 decimals, as
        there."""
        rows = applying(samples, self.applies)
        if not rows:
            return []
        scores = {"compat.bleu4": [bleu4(row.prediction, row.reference) for row in rows]}
        if find_spec("jieba"):
            pairs = [(_words(row.prediction), _words(row.reference)) for row in rows]
            scores["compat.rouge1"] = [set_rouge(*pair, order=1) for pair in pairs]
            scores["compat.rouge2"] = [set_rouge(*pair, order=2) for pair in pairs]
            scores["compat.rougeL"] = [sequence_rouge(*pair) for pair in pairs]
        return [
            Measured(
                key,
                VERSION,
                np.round(np.array(values), 4)[:, None],
                mean_of_rows,
                unit="points",
                signature=BLEU_SIGNATURE if key == "compat.bleu4" else ROUGE_SIGNATURE,
            )
            for key, values in scores.items()
        ]


def bleu4(prediction: str, reference: str) -> float:
    """0 to 100. Each order without a match counts as 1 / (2^k n-grams), k the number of such orders so far; an order
    at which the prediction has no n-grams counts as one without a match."""
    logs, missed = 0.0, 0
    for order in range(1, 5):
        ours, theirs = _grams(prediction, order), _grams(reference, order)
        common, total = (ours & theirs).total(), max(1, ours.total())
        if order == 1 and not common:
            return 0.0
        missed += not common
        logs += np.log((common or 0.5**missed) / total) / 4
    brevity = min(0.0, 1 - len(reference) / len(prediction))
    return 100 * float(np.exp(logs + brevity))


def _grams(units: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(units[start : start + order]) for start in range(len(units) - order + 1))


def _words(text: str) -> list[str]:
    jieba = import_module("jieba")
    return " ".join(jieba.cut(text)).split()


def set_rouge(prediction: Sequence[str], reference: Sequence[str], *, order: int) -> float:
    """F over the sets of n-grams, 0 to 100."""
    ours, theirs = set(_grams(prediction, order)), set(_grams(reference, order))
    return _f(len(ours & theirs), len(ours), len(theirs))


def sequence_rouge(prediction: Sequence[str], reference: Sequence[str]) -> float:
    """F of the longest common subsequence, 0 to 100."""
    return _f(common_subsequence(prediction, reference), len(prediction), len(reference))


def _f(common: int, ours: int, theirs: int) -> float:
    precision, recall = common / ours if ours else 0.0, common / theirs if theirs else 0.0
    return 200 * precision * recall / (precision + recall + 1e-8)
