"""Agreement between raters against published worked examples and against plain loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tunewright.core.agreement import (
    NO_PAIRS,
    NO_VARIANCE,
    Ratings,
    cohen_kappa,
    fleiss_kappa,
    item_agreement,
    krippendorff_alpha,
    raw_agreement,
)

# Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C: 4 observers, 12 units, missing data.
KRIPPENDORFF = """
1 2 3 3 2 1 4 1 2 . . .
1 2 3 3 2 2 4 1 2 5 . 3
. 3 3 3 2 3 4 2 2 5 1 .
1 2 3 3 2 4 4 1 2 5 1 .
"""
# The worked example of Wikipedia's "Fleiss' kappa": 14 raters, 10 subjects, 5 categories.
FLEISS = [
    [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
]  # fmt: skip


def table(text: str) -> list[list[int]]:
    observers = [[-1 if word == "." else int(word) - 1 for word in line.split()] for line in text.split("\n") if line]
    return np.array(observers).T.tolist()


@pytest.fixture(scope="module")
def example() -> Ratings:
    return Ratings.of_table(table(KRIPPENDORFF), categories=5)


def test_alpha_of_the_paper(example: Ratings) -> None:
    """The paper gives .743 nominal, .815 ordinal and .849 interval; the twelfth unit has one value and drops out."""
    found = {level: krippendorff_alpha(example, level=level, seed=7) for level in ("nominal", "ordinal", "interval")}
    assert {level: round(alpha.value, 3) for level, alpha in found.items()} == {
        "nominal": 0.743,
        "ordinal": 0.815,
        "interval": 0.849,
    }
    assert {alpha.n for alpha in found.values()} == {11}


def test_interval_values_are_used_as_they_are(example: Ratings) -> None:
    """Alpha does not change when values are moved or stretched, and does when their distances change."""
    plain = krippendorff_alpha(example, level="interval", seed=7).value
    moved = krippendorff_alpha(example, level="interval", values=[1e6, 1e6 + 3, 1e6 + 6, 1e6 + 9, 1e6 + 12], seed=7)
    bent = krippendorff_alpha(example, level="interval", values=[0, 1, 2, 3, 100], seed=7)
    assert moved.value == pytest.approx(plain, abs=1e-9)
    assert abs(bent.value - plain) > 0.05


def test_fleiss_of_the_worked_example() -> None:
    found = fleiss_kappa(Ratings.of_counts(FLEISS), seed=7)
    assert round(found.value, 3) == 0.210
    assert raw_agreement(Ratings.of_counts(FLEISS), seed=7).value == pytest.approx(0.378, abs=5e-4)


def test_cohen_of_the_worked_examples() -> None:
    """Wikipedia's "Cohen's kappa": 20, 5, 10, 15 give .4; of two tables with 60 % agreement, 45/15/25/15 gives .1304
    and 25/35/5/35 gives .2593."""
    for cells, kappa in (((20, 5, 10, 15), 0.4), ((45, 15, 25, 15), 0.1304), ((25, 35, 5, 35), 0.2593)):
        pairs = [pair for pair, n in zip(itertools.product((0, 1), (0, 1)), cells, strict=True) for _ in range(n)]
        found = cohen_kappa(Ratings.of_table(pairs, categories=2), seed=7)
        assert found.value == pytest.approx(kappa, abs=5e-5)
        assert found.low < kappa < found.high


def test_cohen_uses_only_what_both_rated() -> None:
    both = [[0, 0]] * 4 + [[1, 1]] * 3 + [[0, 1]]
    alone = [[0, -1]] * 50 + [[-1, 1]] * 50
    full, partial = (cohen_kappa(Ratings.of_table(t, categories=2), seed=7) for t in (both, both + alone))
    assert full == partial
    assert full.n == 8


def alpha_by_coincidences(rows: list[list[int]], level: str, k: int) -> float:
    """Section C's procedure word for word: the coincidence matrix, then observed against expected disagreement."""
    o = np.zeros((k, k))
    for row in rows:
        values = [value for value in row if value >= 0]
        for a, b in itertools.permutations(range(len(values)), 2):
            o[values[a], values[b]] += 1 / (len(values) - 1)
    n_c = o.sum(axis=1)
    n = n_c.sum()

    def delta(c: int, d: int) -> float:
        low, high = min(c, d), max(c, d)
        between = n_c[low : high + 1].sum() - (n_c[c] + n_c[d]) / 2
        return {"nominal": float(c != d), "interval": float((c - d) ** 2), "ordinal": float(between**2)}[level]

    pairs = list(itertools.product(range(k), range(k)))
    observed = sum(o[c, d] * delta(c, d) for c, d in pairs)
    expected = sum(n_c[c] * n_c[d] * delta(c, d) for c, d in pairs if c != d)
    return 1 - (n - 1) * observed / expected


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
def test_alpha_against_the_coincidence_matrix(level: str) -> None:
    random = np.random.default_rng(3)
    for trial in range(20):
        k, raters = 2 + trial % 5, 2 + trial % 4
        rows = random.integers(-1, k, size=(30, raters)).tolist()
        found = krippendorff_alpha(Ratings.of_table(rows, categories=k), level=level, seed=1, resamples=10)
        assert found.value == pytest.approx(alpha_by_coincidences(rows, level, k), abs=1e-12)


def test_the_interval_is_that_of_resampled_items(example: Ratings) -> None:
    """Drawing patterns by a multinomial is drawing items: the same interval as 4,000 resampled tables, within noise."""
    random = np.random.default_rng(0)
    rows = random.integers(0, 3, size=(60, 3))
    rows[:40, 1:] = rows[:40, :1]
    ratings = Ratings.of_table(rows.tolist(), categories=3)
    found = krippendorff_alpha(ratings, level="nominal", seed=7, resamples=4000)
    drawn = [alpha_by_coincidences(rows[random.integers(0, 60, 60)].tolist(), "nominal", 3) for _ in range(2000)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert found.low == pytest.approx(low, abs=0.02)
    assert found.high == pytest.approx(high, abs=0.02)
    assert found.low < found.value < found.high


def test_same_seed_same_interval_whatever_the_order_of_items() -> None:
    rows = np.random.default_rng(5).integers(0, 4, size=(50, 3)).tolist()
    one, other = (Ratings.of_table(t, categories=4) for t in (rows, rows[::-1]))
    first = krippendorff_alpha(one, level="ordinal", seed=7)
    assert first == krippendorff_alpha(other, level="ordinal", seed=7)
    assert first.low != krippendorff_alpha(one, level="ordinal", seed=8).low


def test_no_variance_is_said() -> None:
    same = Ratings.of_table([[1, 1]] * 20, categories=3)
    for found in (
        krippendorff_alpha(same, level="nominal", seed=7),
        krippendorff_alpha(same, level="ordinal", seed=7),
        krippendorff_alpha(same, level="interval", seed=7),
        fleiss_kappa(same, seed=7),
        cohen_kappa(same, seed=7),
    ):
        assert (found.value, found.reason, found.low, found.n) == (None, NO_VARIANCE, None, 20)
        assert found.text == "undefined: no variance"
    assert raw_agreement(same, seed=7).value == 1.0


def test_resamples_without_variance_are_left_out_and_counted() -> None:
    rare = Ratings.of_table([[0, 0]] * 30 + [[1, 1]], categories=2)
    found = krippendorff_alpha(rare, level="nominal", seed=7)
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)
    assert 250 < found.undefined_resamples < 480  # (30/31)^31 = 36 % of 1,000


def test_no_pairs_is_said() -> None:
    for rows in ([[0, -1], [-1, 1]], []):
        ratings = Ratings.of_table(np.array(rows, np.int64).reshape(-1, 2).tolist() or np.zeros((0, 2)), categories=2)
        for found in (
            raw_agreement(ratings, seed=7),
            fleiss_kappa(ratings, seed=7),
            cohen_kappa(ratings, seed=7),
            krippendorff_alpha(ratings, level="nominal", seed=7),
        ):
            assert (found.value, found.n, found.text) == (None, 0, NO_PAIRS)


def test_item_agreement() -> None:
    ratings = Ratings.of_table([[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, -1, -1], [2, -1, 2]], categories=3)
    assert np.array_equal(item_agreement(ratings), [1, 1 / 3, 0, np.nan, 1], equal_nan=True)


def test_opposite_raters_are_below_chance() -> None:
    found = cohen_kappa(Ratings.of_table([[0, 1], [1, 0]] * 10, categories=2), seed=7)
    assert found.value == pytest.approx(-1.0)
    assert krippendorff_alpha(Ratings.of_table([[0, 1], [1, 0]] * 10, categories=2), level="nominal", seed=7).value < 0
