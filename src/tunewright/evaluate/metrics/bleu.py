"""Corpus BLEU by sacrebleu (Papineni et al. 2002; Post 2018), with statistics a row so that it can be resampled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from tunewright.core.errors import MissingExtraError
from tunewright.core.scoring import Floats, Measured, Sample
from tunewright.evaluate.config import BleuOptions
from tunewright.evaluate.metrics.characters import han_share
from tunewright.evaluate.rows import applying, empty_answers, matches

VERSION = 1
HAN_SHARE = 0.2
ORDER = 4


class Bleu:
    """`bleu`, 0 to 100: effective order, exp smoothing, `zh` tokens where the references are Chinese, else `13a`."""

    def __init__(self, options: BleuOptions) -> None:
        """Raises MissingExtraError without sacrebleu, before anything is generated."""
        if find_spec("sacrebleu") is None:
            raise MissingExtraError("BLEU needs sacrebleu", fix="pip install 'tunewright[evaluate]'")
        self.options = options

    @staticmethod
    def metric_keys(options: BleuOptions) -> list[str]:
        """Flat keys that `measure` produces."""
        return ["bleu"]

    def applies(self, metadata: Mapping[str, Any]) -> bool:
        """Whether a row with this metadata is scored."""
        return matches(metadata, self.options.where)

    def measure(self, samples: Sequence[Sample]) -> list[Measured]:
        """Scores the samples that apply; none at all gives an empty list. An empty prediction matches nothing."""
        from sacrebleu.metrics.bleu import BLEU

        rows = applying(samples, self.applies)
        if not rows:
            return []
        tokenize = "zh" if han_share(row.reference for row in rows) >= HAN_SHARE else "13a"
        scorer = BLEU(effective_order=True, smooth_method="exp", tokenize=tokenize)
        statistics = []
        for row in rows:
            one = scorer.sentence_score(row.prediction, [row.reference])
            statistics.append([*one.counts, *one.totals, one.sys_len, one.ref_len])
        signature = f"{scorer.get_signature()}|empty:{empty_answers(rows)}"
        return [Measured("bleu", VERSION, np.array(statistics, float), corpus_bleu, unit="points", signature=signature)]


def corpus_bleu(statistics: Floats) -> Floats:
    """sacrebleu's corpus score of each resample: [R, n, 10] -> [R].

    Columns: matched n-grams of order 1 to 4, n-grams of the prediction of order 1 to 4, its length, the reference's.
    An order at which no prediction has n-grams ends the average (effective order); each order without a match counts
    as 1 / (2^k total), k the number of such orders so far (exp smoothing).
    """
    sums = statistics.sum(axis=1)
    matched, total, length, wanted = sums[:, :ORDER], sums[:, ORDER : 2 * ORDER], sums[:, -2], sums[:, -1]
    used = np.logical_and.accumulate(total > 0, axis=1)
    missed = used & (matched == 0)
    halved = 0.5 ** missed.cumsum(axis=1)
    precision = np.where(missed, halved, matched) / np.maximum(total, 1)
    logs = np.log(np.where(used, precision, 1)).sum(axis=1) / np.maximum(used.sum(axis=1), 1)
    brevity = np.minimum(0.0, 1 - wanted / np.maximum(length, 1))
    scores: Floats = np.where(matched.any(axis=1), 100 * np.exp(brevity + logs), 0.0)
    return scores
