"""How far raters agree: raw agreement, Cohen's and Fleiss' kappa, Krippendorff's alpha, with bootstrap intervals.

Sources: Cohen 1960, Educational and Psychological Measurement 20, 37-46; Fleiss 1971, Psychological Bulletin 76,
378-382; Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability". Everything depends only on how many items got
which labels, so items with the same labels are counted together: memory and time follow the patterns, not the items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tunewright.core.scoring import CHUNK_BYTES, RESAMPLES, percentile_interval

Level = Literal["nominal", "ordinal", "interval"]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""Maps items of each pattern [R, P] to values [R]; NaN where a value is undefined."""
MISSING = -1
NO_VARIANCE = "undefined: no variance"
NO_PAIRS = "undefined: no item has two labels"


@dataclass(frozen=True)
class Ratings:
    """Who gave which label to which item, as three columns. item, rater, label: [m] int64, from 0; labels are numbers
    of categories in their order. A missing rating is a line that is not there; a rater may rate an item again."""

    item: Ints
    rater: Ints
    label: Ints
    items: int
    raters: int
    categories: int

    @classmethod
    def of_table(cls, table: Sequence[Sequence[int]], *, categories: int) -> Ratings:
        """table: [items, raters] numbers of categories, -1 = missing."""
        cells = np.asarray(table, dtype=np.int64)
        item, rater = np.nonzero(cells != MISSING)
        return cls(item, rater, cells[item, rater], len(cells), cells.shape[1], categories)

    @classmethod
    def of_counts(cls, counts: Sequence[Sequence[int]]) -> Ratings:
        """counts: [items, categories], how many raters gave an item each label, where who they were is not known."""
        cells = np.asarray(counts, dtype=np.int64)
        item, label = np.nonzero(cells)
        times, sizes = cells[item, label], cells.sum(axis=1)
        item, label = np.repeat(item, times), np.repeat(label, times)
        rater = np.arange(len(item)) - (np.cumsum(sizes) - sizes)[item]
        return cls(item, rater, label, len(cells), int(sizes.max(initial=0)), cells.shape[1])


@dataclass(frozen=True)
class Group:
    """Items with equally many ratings. items: [n] their numbers; rows: [P, size] the different sorted codes; which:
    [n] the row of each item; weight: [P] items of each row."""

    items: Ints
    rows: Ints
    which: Ints
    weight: Ints


def grouped(ratings: Ratings, codes: Ints) -> Iterator[Group]:
    """The items by how many ratings they have. codes: [m] what is known of each rating."""
    order = np.lexsort((codes, ratings.item))
    sizes = np.bincount(ratings.item, minlength=ratings.items)
    starts = np.cumsum(sizes) - sizes
    for size in np.unique(sizes[sizes > 0]).tolist():
        items = np.flatnonzero(sizes == size)
        found = codes[order][starts[items][:, None] + np.arange(size)]
        rows, which, weight = np.unique(found, axis=0, return_inverse=True, return_counts=True)
        yield Group(items, rows, which.reshape(-1), weight)


@dataclass(frozen=True, slots=True)
class Coefficient:
    """A measure of agreement. value: None where it is undefined, and `reason` then says why; low, high: 95 % percentile
    bootstrap over items; n: items it was computed from; undefined_resamples: those that the interval leaves out."""

    name: str
    value: float | None
    n: int
    reason: str = ""
    low: float | None = None
    high: float | None = None
    undefined_resamples: int = 0

    @property
    def text(self) -> str:
        """'0.743 [0.512, 0.901]', or why there is no number."""
        if self.value is None:
            return self.reason
        interval = "" if self.low is None or self.high is None else f" [{self.low:.3f}, {self.high:.3f}]"
        return f"{self.value:.3f}{interval}"

    def dump(self) -> dict[str, Any]:
        """For report.json."""
        names = ("name", "value", "low", "high", "n", "reason", "undefined_resamples")
        values = {name: getattr(self, name) for name in names}
        return {name: round(value, 6) if isinstance(value, float) else value for name, value in values.items()}


class _Patterns:
    """Items with two or more ratings by the labels they got. weight: [P] items; size: [P] ratings of an item; pattern,
    category, count: [E] the labels of each pattern, in its order."""

    def __init__(self, ratings: Ratings) -> None:
        groups = [group for group in grouped(ratings, ratings.label) if group.rows.shape[1] > 1]
        self.categories = ratings.categories
        self.weight = np.concatenate([group.weight for group in groups] or [np.zeros(0, np.int64)])
        self.size = np.repeat(
            np.array([group.rows.shape[1] for group in groups], np.int64), [len(group.rows) for group in groups]
        )
        labels = np.concatenate([group.rows.reshape(-1) for group in groups] or [np.zeros(0, np.int64)])
        owner = np.repeat(np.arange(len(self.size)), self.size)
        cells, self.count = np.unique(owner * self.categories + labels, return_counts=True)
        self.pattern, self.category = cells // self.categories, cells % self.categories
        self._by_category = np.argsort(self.category, kind="stable")
        self._present, self._starts = np.unique(self.category[self._by_category], return_index=True)
        self._firsts = np.searchsorted(self.pattern, np.arange(len(self.weight)))

    def marginals(self, weights: Floats) -> Floats:
        """Ratings of each category. weights: [R, P]; returns [R, k]."""
        found = np.zeros((len(weights), self.categories))
        order = self._by_category
        found[:, self._present] = np.add.reduceat(
            weights[:, self.pattern[order]] * self.count[order], self._starts, axis=1
        )
        return found

    def sums(self, values: Floats) -> Floats:
        """Over the ratings of each pattern. values: [R, k], one a category; returns [R, P]."""
        found: Floats = np.add.reduceat(values[:, self.category] * self.count, self._firsts, axis=1)
        return found

    def agreement(self) -> Floats:
        """[P] share of equal pairs of ratings."""
        equal = np.add.reduceat(self.count * (self.count - 1), self._firsts)
        found: Floats = equal / (self.size * (self.size - 1))
        return found


def raw_agreement(ratings: Ratings, *, seed: int, resamples: int = RESAMPLES) -> Coefficient:
    """Share of equal pairs of ratings of an item, mean over the items with two or more."""
    patterns = _Patterns(ratings)
    return _bootstrapped("raw_agreement", patterns.weight, lambda w: _raw(patterns, w), seed, resamples)


def _raw(patterns: _Patterns, weights: Floats) -> Floats:
    found: Floats = weights @ patterns.agreement() / weights.sum(axis=1)
    return found


def item_agreement(ratings: Ratings) -> Floats:
    """[items] share of equal pairs of ratings; NaN for items with fewer than two."""
    found = np.full(ratings.items, np.nan)
    for group in grouped(ratings, ratings.label):
        size = group.rows.shape[1]
        if size > 1:
            equal = (group.rows[:, :, None] == group.rows[:, None, :]).sum(axis=(1, 2)) - size
            found[group.items] = (equal / (size * (size - 1)))[group.which]
    return found


def fleiss_kappa(ratings: Ratings, *, seed: int, resamples: int = RESAMPLES) -> Coefficient:
    """Fleiss' kappa. Where items have different numbers of ratings, the observed agreement is the mean over items and
    chance follows from all ratings; with one number for all items this is Fleiss' own formula."""
    patterns = _Patterns(ratings)

    def kappa(weights: Floats) -> Floats:
        marginals = patterns.marginals(weights)
        chance = ((marginals / marginals.sum(axis=1, keepdims=True)) ** 2).sum(axis=1)
        return _over_chance(_raw(patterns, weights), chance, marginals)

    return _bootstrapped("fleiss_kappa", patterns.weight, kappa, seed, resamples)


def _over_chance(observed: Floats, chance: Floats, marginals: Floats) -> Floats:
    varies = (marginals > 0).sum(axis=1) > 1
    return np.where(varies, (observed - chance) / np.where(varies, 1 - chance, 1.0), np.nan)


def cohen_kappa(ratings: Ratings, *, seed: int, resamples: int = RESAMPLES) -> Coefficient:
    """Cohen's kappa of two raters over the items that both rated; each has marginals of their own."""
    assert ratings.raters == 2, "Cohen's kappa is for two raters"
    table = np.full((ratings.items, 2), MISSING)
    table[ratings.item, ratings.rater] = ratings.label
    pairs, weight = np.unique(table[(table != MISSING).all(axis=1)], axis=0, return_counts=True)
    each = np.eye(ratings.categories)[pairs]

    def kappa(weights: Floats) -> Floats:
        total = weights.sum(axis=1)
        first, second = weights @ each[:, 0], weights @ each[:, 1]
        observed = weights @ (pairs[:, 0] == pairs[:, 1]) / total
        return _over_chance(observed, (first * second).sum(axis=1) / total**2, first + second)

    return _bootstrapped("cohen_kappa", weight, kappa, seed, resamples)


def krippendorff_alpha(
    ratings: Ratings, *, level: Level, seed: int, values: Sequence[float] = (), resamples: int = RESAMPLES
) -> Coefficient:
    """Krippendorff's alpha for any number of raters and missing ratings; items with one rating do not count.

    values: [categories], the numbers that categories stand for, for level interval; their positions by default.
    """
    patterns = _Patterns(ratings)
    scores = np.asarray(values if len(values) else range(ratings.categories), dtype=np.float64)

    def alpha(weights: Floats) -> Floats:
        marginals = patterns.marginals(weights)
        if level == "nominal":
            observed, expected = _nominal(patterns, weights, marginals)
        else:
            # (sum of n_g from c to k - (n_c + n_k) / 2)^2 is the squared distance of mid-ranks (Krippendorff 2011, D)
            places = np.cumsum(marginals, axis=1) - marginals / 2 if level == "ordinal" else scores[None]
            observed, expected = _metric(patterns, weights, marginals, places)
        varies = (marginals > 0).sum(axis=1) > 1
        return np.where(varies, 1 - observed / np.where(varies, expected, 1.0), np.nan)

    return _bootstrapped(f"krippendorff_alpha_{level}", patterns.weight, alpha, seed, resamples)


def _nominal(patterns: _Patterns, weights: Floats, marginals: Floats) -> tuple[Floats, Floats]:
    total = marginals.sum(axis=1)
    observed = weights @ (patterns.size * (1 - patterns.agreement()))
    return observed, (total**2 - (marginals**2).sum(axis=1)) / (total - 1)


def _metric(patterns: _Patterns, weights: Floats, marginals: Floats, places: Floats) -> tuple[Floats, Floats]:
    """Observed and expected squared distances. places: [R or 1, k]; taken from their mean, against cancellation."""
    total = marginals.sum(axis=1)
    places = places - ((marginals * places).sum(axis=1) / total)[:, None]
    spread = patterns.size * patterns.sums(places**2) - patterns.sums(places) ** 2
    observed = (weights * (2 * spread / (patterns.size - 1))).sum(axis=1)
    return observed, 2 * total * (marginals * places**2).sum(axis=1) / (total - 1)


def _bootstrapped(name: str, weight: Ints, statistic: Statistic, seed: int, resamples: int) -> Coefficient:
    """The value with its interval: drawing items with replacement is a multinomial draw of patterns."""
    n = int(weight.sum())
    if n == 0:
        return Coefficient(name, None, 0, NO_PAIRS)
    value = float(statistic(weight[None].astype(np.float64))[0])
    if np.isnan(value):
        return Coefficient(name, None, n, NO_VARIANCE)
    generator, step = np.random.default_rng(seed), max(1, CHUNK_BYTES // (32 * len(weight)))
    parts = [
        statistic(generator.multinomial(n, weight / n, size=min(step, resamples - start)).astype(np.float64))
        for start in range(0, resamples, step)
    ]
    drawn = np.concatenate(parts)
    defined = drawn[~np.isnan(drawn)]
    low, high = percentile_interval(defined) if len(defined) else (None, None)
    return Coefficient(name, value, n, low=low, high=high, undefined_resamples=len(drawn) - len(defined))
