"""Strengths against hand-made solutions and their own definition."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tunewright.rating.bradley_terry import PRIOR_SD, against_average, strengths


def test_two_systems_without_a_prior_have_the_log_of_the_odds() -> None:
    """The maximum of 30 ln s(d) + 10 ln s(-d) is d = ln(30 / 10)."""
    found = strengths(np.array([[[0.0, 30.0], [10.0, 0.0]]]), prior_sd=1e6)[0]
    assert found[0] - found[1] == pytest.approx(np.log(3), abs=1e-6)


def test_three_systems_are_at_the_maximum_of_likelihood_times_prior() -> None:
    """The function is written down here once more, as a loop over pairs; no step from the solution may raise it."""
    wins = [[0, 8.5, 3.0], [2.5, 0, 6.0], [1.0, 4.0, 0]]

    def logarithm(t: np.ndarray) -> float:
        likelihood = sum(wins[i][j] * -math.log1p(math.exp(t[j] - t[i])) for i in range(3) for j in range(3))
        return float(likelihood - (t**2).sum() / (2 * PRIOR_SD**2))

    found = strengths(np.array([wins], dtype=np.float64))[0]
    best, generator = logarithm(found), np.random.default_rng(1)
    for size in (1e-4, 1e-2, 1.0):
        assert all(logarithm(found + size * generator.standard_normal(3)) < best for _ in range(50))


def test_a_system_that_never_lost_stays_finite_and_leads() -> None:
    found = strengths(np.array([[[0.0, 50.0, 50.0], [0.0, 0.0, 25.0], [0.0, 25.0, 0.0]]]))[0]
    assert np.isfinite(found).all()
    assert found[0] > 2 > found[1]
    assert found[1] == pytest.approx(found[2], abs=1e-9)
    assert found.sum() == pytest.approx(0, abs=1e-9), "the prior centres them"


def test_without_votes_all_are_equal_and_resamples_are_independent() -> None:
    none, some = np.zeros((3, 3)), np.array([[0.0, 1000.0, 9.0], [1.0, 0.0, 9.0], [9.0, 9.0, 0.0]])
    found = strengths(np.stack([none, some]))
    assert (found[0] == 0).all()
    np.testing.assert_allclose(found[1], strengths(some[None])[0], atol=1e-9)
    assert against_average(np.array([0.0]))[0] == 0.5


def test_more_votes_move_further_from_the_prior() -> None:
    few, many = strengths(np.array([[[0.0, 3.0], [1.0, 0.0]], [[0.0, 300.0], [100.0, 0.0]]]))
    assert 0 < few[0] - few[1] < many[0] - many[1] < np.log(3)
