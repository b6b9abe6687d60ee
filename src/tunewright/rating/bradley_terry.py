"""Strengths of more than two systems from pairwise wins, with a prior that keeps them finite.

Model: P(i beats j) = 1 / (1 + exp(t_j - t_i)) (Bradley and Terry 1952). Ties are half a win each way. The strengths are
the maximum of likelihood times a normal prior (mean 0, standard deviation PRIOR_SD): without it a system that never
lost would get an infinite strength, and systems that never met could not be compared.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
PRIOR_SD = 1.5
"""In log-odds: before any vote, 95 % of the pairs are thought to be won with between 1.5 % and 98.5 %."""
ROUNDS = 200
LONGEST_STEP = 2.0
ENOUGH = 1e-10


def strengths(wins: Floats, *, prior_sd: float = PRIOR_SD) -> Floats:
    """wins: [R, k, k], how often i beat j (halves for ties), for R resamples. Returns [R, k] log-odds, mean 0.

    Newton's method; the function is strictly concave, so that the one maximum is found from anywhere.
    """
    met = wins + np.swapaxes(wins, 1, 2)
    won, found = wins.sum(axis=2), np.zeros(wins.shape[:2])
    diagonal = np.arange(wins.shape[1])
    for _ in range(ROUNDS):
        chance = 1 / (1 + np.exp(found[:, None, :] - found[:, :, None]))
        slope = won - (met * chance).sum(axis=2) - found / prior_sd**2
        curve = met * chance * (1 - chance)
        hessian = -curve
        hessian[:, diagonal, diagonal] += curve.sum(axis=2) + 1 / prior_sd**2
        step = np.linalg.solve(hessian, slope[..., None])[..., 0]
        found = found + np.clip(step, -LONGEST_STEP, LONGEST_STEP)
        if np.abs(step).max(initial=0) < ENOUGH:
            break
    return found


def against_average(strength: Floats) -> Floats:
    """The chance to beat a system of strength 0, the average of those compared."""
    chance: Floats = 1 / (1 + np.exp(-strength))
    return chance
