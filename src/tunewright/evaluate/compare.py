"""Base against tuned: scores with intervals and floors, paired differences, samples side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tunewright.core.scoring import Difference, Measured, Sample, Score, compare, to_score
from tunewright.evaluate.rows import applying
from tunewright.evaluate.scorer import RowMetric


def derangement(n: int, *, seed: int) -> list[int]:
    """A random order of 0..n-1 in which nothing stays in its place (one cycle: Sattolo 1986). n >= 2."""
    generator = np.random.default_rng(seed)
    order = list(range(n))
    for last in range(n - 1, 0, -1):
        other = int(generator.integers(0, last))
        order[last], order[other] = order[other], order[last]
    return order


def wrong_answer_floors(metric: RowMetric, samples: Sequence[Sample], *, seed: int) -> dict[str, float]:
    """The metric with every prediction scored against another row's reference; empty for fewer than two rows."""
    rows = applying(samples, metric.applies)
    if len(rows) < 2:
        return {}
    wrong = [
        rows[other].model_copy(update={"prediction": row.prediction, "choice": row.choice})
        for row, other in zip(rows, derangement(len(rows), seed=seed), strict=True)
    ]
    return {measured.metric: measured.value for measured in metric.measure(wrong)}


def scores_of(measured: Mapping[str, Measured], floors: Mapping[str, float], *, seed: int) -> dict[str, Score]:
    """Every metric as a number with its interval."""
    return {key: to_score(value, seed=seed, floor=floors.get(key)) for key, value in measured.items()}


def differences_of(tuned: Mapping[str, Measured], base: Mapping[str, Measured], *, seed: int) -> dict[str, Difference]:
    """Tuned minus base for every metric."""
    return {key: compare(tuned[key], base[key], seed=seed) for key in tuned}


def verdict(difference: Difference, *, higher_is_better: bool) -> str:
    """ "better", "worse" or "no difference shown", with p."""
    if difference.p >= 0.05 or difference.difference == 0:
        return f"no difference shown (p {difference.p:.2g})"
    is_better = (difference.difference > 0) == higher_is_better
    return f"{'better' if is_better else 'worse'} (p {difference.p:.2g})"


def right_rows(metric: RowMetric, measured: Measured, samples: Sequence[Sample]) -> list[bool | None]:
    """Whether each answer is right by a yes/no metric; None for rows that it does not score."""
    outcomes = iter(measured.statistics[:, 0])
    return [bool(next(outcomes)) if metric.applies(sample.metadata) else None for sample in samples]


def side_by_side(
    base: Sequence[Sample],
    tuned: Sequence[Sample],
    *,
    base_right: Sequence[bool | None],
    tuned_right: Sequence[bool | None],
    promoted: Sequence[Sample] | None = None,
) -> list[dict[str, Any]]:
    """Rows of samples.jsonl; `promoted` stands in them where that model was asked as well."""
    rows = [
        {
            "id": ours.id,
            "prompt": ours.prompt,
            "reference": ours.reference,
            "base": theirs.prediction,
            "tuned": ours.prediction,
            "base_right": was_right,
            "tuned_right": is_right,
            "metadata": ours.metadata,
        }
        for theirs, ours, was_right, is_right in zip(base, tuned, base_right, tuned_right, strict=True)
    ]
    if promoted is not None:
        rows = [row | {"promoted": sample.prediction} for row, sample in zip(rows, promoted, strict=True)]
    return rows
