"""Scores with their uncertainty: bootstrap and Wilson intervals, paired bootstrap, exact McNemar, permutation test.

Definitions: docs/reference/metrics.md. Sources: Wilson 1927; Koehn 2004 (paired bootstrap); McNemar 1947;
Phipson & Smyth 2010 (permutation p values are never zero).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

RESAMPLES = 1000
Z_95 = 1.959963984540054
CHUNK_BYTES = 1 << 26
"""Memory for resampled statistics at once: 64 MB, whatever the number of rows and columns."""
EXACT_PERMUTATIONS = 5000
Floats = NDArray[np.float64]
Aggregate = Callable[[Floats], Floats]
"""Maps per-row statistics [R, n, k] (R resamples) to scores [R]."""


class Sample(BaseModel):
    """One test row with a system's answer."""

    model_config = ConfigDict(frozen=True)

    id: str
    prompt: str
    reference: str
    prediction: str
    seconds: float = 0.0
    new_tokens: int = 0
    finish: str = "stop"
    metadata: dict[str, Any] = {}
    choice: str | None = None
    """The answer by constrained choice among known labels, where one was made."""


@dataclass(frozen=True)
class Measured:
    """A metric over rows before it becomes a number. statistics: [n, k], one line a row; `aggregate` makes scores of
    resampled lines. `yes_no`: k is 1 and every value is 0 or 1, so Wilson and McNemar apply. `paired`: line i of two
    systems is the same row; off for repeated timings, which have no partner."""

    metric: str
    version: int
    statistics: Floats
    aggregate: Aggregate
    yes_no: bool = False
    unit: str = ""
    higher_is_better: bool = True
    signature: str = ""
    paired: bool = True

    @property
    def value(self) -> float:
        """The score over all rows."""
        return float(self.aggregate(self.statistics[None])[0])


class Score(BaseModel):
    """One metric's value with n, a 95 % interval and the signature that says how it was computed."""

    model_config = ConfigDict(frozen=True)

    metric: str
    version: int
    value: float
    low: float
    high: float
    n: int
    unit: str = ""
    higher_is_better: bool = True
    signature: str = ""
    floor: float | None = None
    """The same metric against another row's reference: what a wrong answer scores."""


class Difference(BaseModel):
    """Tuned minus base on the same rows, with a 95 % interval and a two-sided p value."""

    model_config = ConfigDict(frozen=True)

    metric: str
    difference: float
    low: float
    high: float
    p: float
    test: str
    n: int

    @property
    def verdict(self) -> str:
        """In words; silence would be read as success."""
        return "no difference shown" if self.p >= 0.05 else f"difference shown (p {self.p:.3g})"


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95 % Wilson interval of a rate; (0, 1) when there are no rows."""
    if n == 0:
        return 0.0, 1.0
    rate, z2 = successes / n, Z_95**2
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
    return centre - half if successes else 0.0, centre + half if successes < n else 1.0


def mean_of_rows(statistics: Floats) -> Floats:
    """The aggregate of metrics that are a mean over rows: [R, n, 1] -> [R]."""
    means: Floats = statistics[..., 0].mean(axis=1)
    return means


def bootstrap(statistics: Floats, aggregate: Aggregate, *, seed: int, resamples: int = RESAMPLES) -> Floats:
    """Scores of `resamples` resamples of the rows. statistics: [n, k]; returns [resamples]."""
    return aggregate_rows(statistics, resample_indices(len(statistics), seed=seed, resamples=resamples), aggregate)


def aggregate_rows(statistics: Floats, rows: NDArray[np.int64], aggregate: Aggregate) -> Floats:
    """Scores of the chosen lines, in chunks of bounded memory. statistics: [n, k]; rows: [R, m]; returns [R]."""
    size = max(1, CHUNK_BYTES // max(1, rows.shape[1] * statistics.shape[1] * statistics.itemsize))
    parts = [aggregate(statistics[rows[start : start + size]]) for start in range(0, len(rows), size)]
    return np.concatenate(parts)


def resample_indices(n: int, *, seed: int, resamples: int = RESAMPLES) -> NDArray[np.int64]:
    """[resamples, n] row indices, the same for every metric and system so that comparisons are paired."""
    return np.random.default_rng(seed).integers(0, n, size=(resamples, n))


def percentile_interval(values: Floats) -> tuple[float, float]:
    """95 % percentile interval."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def paired_bootstrap(
    tuned: Floats, base: Floats, aggregate: Aggregate, *, seed: int, resamples: int = RESAMPLES
) -> tuple[float, float, float, float]:
    """(difference, low, high, p) of tuned - base over the same rows. tuned, base: [n, k].

    p is two-sided: twice the smaller tail of the bootstrap distribution around zero, never below 1/resamples, nor below
    2 ** (1 - m) for m rows that differ: what their signs alone can show (two rows that both gained are no proof).
    """
    rows = resample_indices(len(tuned), seed=seed, resamples=resamples)
    differences = aggregate_rows(tuned, rows, aggregate) - aggregate_rows(base, rows, aggregate)
    low, high = percentile_interval(differences)
    observed = float(aggregate(tuned[None])[0] - aggregate(base[None])[0])
    tail = min(float((differences <= 0).mean()), float((differences >= 0).mean()))
    differing = int((tuned != base).any(axis=1).sum())
    return observed, low, high, min(1.0, max(2 * tail, 1 / resamples, 2.0 ** (1 - differing)))


def unpaired_test(tuned: Floats, base: Floats, aggregate: Aggregate, *, seed: int) -> tuple[float, float, float, float]:
    """(difference, low, high, p) of tuned - base where lines have no partner. tuned: [n, k]; base: [m, k].

    p is the two-sided permutation test's: all relabellings where there are few, else 1,000 drawn ones.
    """
    n, together = len(tuned), np.concatenate([tuned, base])
    total = len(together)
    if math.comb(total, n) <= EXACT_PERMUTATIONS:
        first = np.array(list(itertools.combinations(range(total), n)))
        second = np.array([[i for i in range(total) if i not in set(chosen)] for chosen in first.tolist()])
        drawn = 0
    else:
        generator = np.random.default_rng(seed)
        shuffled = generator.permuted(np.tile(np.arange(total), (RESAMPLES, 1)), axis=1)
        first, second, drawn = shuffled[:, :n], shuffled[:, n:], 1
    relabelled = aggregate_rows(together, first, aggregate) - aggregate_rows(together, second, aggregate)
    observed = float(aggregate(tuned[None])[0] - aggregate(base[None])[0])
    extreme = int((np.abs(relabelled) >= abs(observed) - 1e-12 * max(1.0, abs(observed))).sum())
    spread = bootstrap(tuned, aggregate, seed=seed) - bootstrap(base, aggregate, seed=seed + 1)
    low, high = percentile_interval(spread)
    return observed, low, high, (extreme + drawn) / (len(relabelled) + drawn)


def mcnemar(tuned: Sequence[bool], base: Sequence[bool]) -> float:
    """Exact two-sided McNemar p value for yes/no outcomes on the same rows."""
    gained = sum(t and not b for t, b in zip(tuned, base, strict=True))
    lost = sum(b and not t for t, b in zip(tuned, base, strict=True))
    n, k = gained + lost, min(gained, lost)
    if n == 0:
        return 1.0
    tail = sum(math.comb(n, i) for i in range(k + 1)) / 2**n
    return float(min(1.0, 2 * tail))


def to_score(measured: Measured, *, seed: int, floor: float | None = None) -> Score:
    """The number with its interval: Wilson for yes/no rates, percentile bootstrap over rows otherwise."""
    n = len(measured.statistics)
    if measured.yes_no:
        low, high = wilson(int(measured.statistics.sum()), n)
    else:
        low, high = percentile_interval(bootstrap(measured.statistics, measured.aggregate, seed=seed))
    return Score(
        metric=measured.metric,
        version=measured.version,
        value=measured.value,
        low=low,
        high=high,
        n=n,
        unit=measured.unit,
        higher_is_better=measured.higher_is_better,
        signature=measured.signature,
        floor=floor,
    )


def compare(tuned: Measured, base: Measured, *, seed: int) -> Difference:
    """Tuned against base: exact McNemar's p for yes/no metrics on the same rows, paired bootstrap for other rows,
    a permutation test where lines have no partner."""
    test = "paired bootstrap" if tuned.paired else "permutation"
    examine = paired_bootstrap if tuned.paired else unpaired_test
    difference, low, high, p = examine(tuned.statistics, base.statistics, tuned.aggregate, seed=seed)
    if tuned.yes_no:
        p, test = (
            mcnemar([bool(v) for v in tuned.statistics[:, 0]], [bool(v) for v in base.statistics[:, 0]]),
            "McNemar",
        )
    return Difference(
        metric=tuned.metric, difference=difference, low=low, high=high, p=p, test=test, n=len(tuned.statistics)
    )
