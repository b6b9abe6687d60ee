"""core.scoring against published and hand-computed numbers."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.core import scoring
from tunewright.core.scoring import Measured, compare, mean_of_rows, to_score


def _measured(values: list[float], *, yes_no: bool = False, paired: bool = True) -> Measured:
    return Measured("m", 1, np.array(values, float)[:, None], mean_of_rows, yes_no=yes_no, paired=paired)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_equals_the_published_table(successes: int, n: int, low: float, high: float) -> None:
    """Golden: Newcombe 1998, Statistics in Medicine 17, table I, method 3 (score without correction)."""
    assert scoring.wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_without_rows_knows_nothing() -> None:
    assert scoring.wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    [
        (8, 1, 20 / 512),  # 2 (C(9,0) + C(9,1)) / 2^9
        (5, 0, 2 / 32),
        (1, 8, 20 / 512),
        (3, 3, 1.0),
        (0, 0, 1.0),
    ],
)
def test_mcnemar_is_the_exact_binomial_by_hand(gained: int, lost: int, p: float) -> None:
    tuned = [True] * gained + [False] * lost + [True, False]
    base = [False] * gained + [True] * lost + [True, False]
    assert scoring.mcnemar(tuned, base) == pytest.approx(p)


def test_bootstrap_of_two_rows_has_the_known_distribution() -> None:
    """Means of {0, 1} drawn twice with replacement: 0, 1/2, 1 with 1/4, 1/2, 1/4."""
    values = scoring.bootstrap(np.array([[0.0], [1.0]]), mean_of_rows, seed=3, resamples=20_000)
    shares = [float((values == wanted).mean()) for wanted in (0.0, 0.5, 1.0)]
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.015)  # four standard errors are 0.014


def test_bootstrap_interval_is_the_normal_one_for_many_rows() -> None:
    values = np.random.default_rng(0).normal(5, 2, size=400)
    score = to_score(_measured(values.tolist()), seed=7)
    error = values.std() / 20
    assert score.low == pytest.approx(values.mean() - 1.96 * error, abs=0.25 * error)
    assert score.high == pytest.approx(values.mean() + 1.96 * error, abs=0.25 * error)


def test_chunks_change_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    statistics = np.random.default_rng(1).normal(size=(50, 3))
    whole = scoring.bootstrap(statistics, mean_of_rows, seed=7)
    monkeypatch.setattr(scoring, "CHUNK_BYTES", 5_000)
    assert np.array_equal(scoring.bootstrap(statistics, mean_of_rows, seed=7), whole)


def test_paired_rows_show_a_difference_that_unpaired_ones_hide() -> None:
    base = np.random.default_rng(2).normal(0, 10, size=60)
    tuned = base + 1 + np.random.default_rng(3).normal(0, 0.5, size=60)
    paired = compare(_measured(tuned.tolist()), _measured(base.tolist()), seed=7)
    unpaired = compare(_measured(tuned.tolist(), paired=False), _measured(base.tolist(), paired=False), seed=7)
    assert paired.test == "paired bootstrap" and paired.p < 0.01
    assert paired.difference == pytest.approx(float((tuned - base).mean()))
    assert paired.low < paired.difference < paired.high
    assert unpaired.test == "permutation" and unpaired.p > 0.2


def test_the_same_answers_show_no_difference() -> None:
    same = compare(_measured([1, 0, 1, 1], yes_no=True), _measured([1, 0, 1, 1], yes_no=True), seed=7)
    assert (same.difference, same.p, same.test) == (0.0, 1.0, "McNemar")
    assert same.verdict == "no difference shown"


def test_three_timings_a_side_can_never_show_a_difference() -> None:
    """The permutation test is exact here: 2 of C(6, 3) = 20 relabellings are as extreme."""
    slow, fast = _measured([10, 11, 12], paired=False), _measured([1, 2, 3], paired=False)
    difference = compare(slow, fast, seed=7)
    assert difference.p == pytest.approx(2 / 20)
    assert difference.difference == pytest.approx(9)
    four = compare(_measured([10, 11, 12, 13], paired=False), _measured([1, 2, 3, 4], paired=False), seed=7)
    assert four.p == pytest.approx(2 / 70)


def test_rates_get_wilson_and_the_floor_is_kept() -> None:
    score = to_score(_measured([1] * 81 + [0] * 182, yes_no=True), seed=7, floor=0.25)
    assert (score.n, score.floor) == (263, 0.25)
    assert (score.low, score.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)


@pytest.mark.parametrize(("rows", "least"), [(0, 1.0), (1, 1.0), (2, 0.5), (5, 0.0625), (12, 0.001)])
def test_a_bootstrap_of_few_differing_rows_proves_no_more_than_their_signs(rows: int, least: float) -> None:
    """All differences have one sign: the resamples never cross zero, but m signs alone have p 2 ** (1 - m)."""
    base = np.zeros((20, 1))
    tuned = base.copy()
    tuned[:rows] = 1.0
    p = scoring.paired_bootstrap(tuned, base, mean_of_rows, seed=7)[3]
    assert p >= least - 1e-12 and (rows < 12 or p == pytest.approx(0.001))
