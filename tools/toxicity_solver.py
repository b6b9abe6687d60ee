"""What `train_toxicity.py` solves with: sparse rows, L-BFGS and Platt scaling in plain numpy."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Loss = Callable[[Floats], tuple[float, Floats]]
HISTORY = 10


def inner(first: Floats, second: Floats) -> float:
    """The inner product, summed in one order: BLAS rounds differently for another number of threads."""
    return float((first * second).sum())


@dataclass(frozen=True)
class Rows:
    """A sparse matrix: value[i] stands at (row[i], column[i])."""

    row: Indices
    column: Indices
    value: Floats
    shape: tuple[int, int]

    def dot(self, vector: Floats) -> Floats:
        """[columns] -> [rows]."""
        return np.bincount(self.row, self.value * vector[self.column], minlength=self.shape[0]).astype(float)

    def transposed_dot(self, vector: Floats) -> Floats:
        """[rows] -> [columns]."""
        return np.bincount(self.column, self.value * vector[self.row], minlength=self.shape[1]).astype(float)

    def scaled(self, factor: Floats) -> Rows:
        """Columns times `factor`, then every row divided by its length."""
        value = self.value * factor[self.column]
        norm = np.sqrt(np.bincount(self.row, value**2, minlength=self.shape[0]))
        return Rows(self.row, self.column, value / np.maximum(norm, 1e-12)[self.row], self.shape)

    def take(self, rows: Indices) -> Rows:
        """These rows, numbered anew."""
        place = np.full(self.shape[0], -1)
        place[rows] = np.arange(len(rows))
        kept = place[self.row] >= 0
        return Rows(place[self.row[kept]], self.column[kept], self.value[kept], (len(rows), self.shape[1]))


def minimise(loss: Loss, start: Floats, *, tolerance: float = 1e-4, most: int = 500) -> Floats:
    """The minimum of a smooth convex function (L-BFGS, Nocedal & Wright 2006, algorithm 7.5).

    Ends where the largest part of the gradient is below `tolerance` times that of the start.
    """
    point, (value, gradient) = start, loss(start)
    enough = tolerance * float(np.abs(gradient).max())
    history: deque[tuple[Floats, Floats]] = deque(maxlen=HISTORY)
    for _ in range(most):
        if float(np.abs(gradient).max()) <= enough:
            break
        direction = -_inverse_hessian(history, gradient)
        size = 1.0 if history else 1.0 / float(np.abs(gradient).sum())
        descent = inner(gradient, direction)
        while True:
            new_point = point + size * direction
            new_value, new_gradient = loss(new_point)
            if new_value <= value + 1e-4 * size * descent or size < 1e-12:
                break
            size /= 2
        step, change = new_point - point, new_gradient - gradient
        if inner(step, change) > 1e-12:
            history.append((step, change))
        point, value, gradient = new_point, new_value, new_gradient
    return point


def _inverse_hessian(history: deque[tuple[Floats, Floats]], gradient: Floats) -> Floats:
    found, factors = gradient.copy(), []
    for step, change in reversed(history):
        factor = inner(step, found) / inner(step, change)
        factors.append(factor)
        found -= factor * change
    if history:
        step, change = history[-1]
        found *= inner(step, change) / inner(change, change)
    for (step, change), factor in zip(history, reversed(factors), strict=True):
        found += (factor - inner(change, found) / inner(step, change)) * step
    return found


def platt(score: Floats, label: Floats) -> tuple[float, float]:
    """(slope, shift) so that 1 / (1 + exp(-(slope score + shift))) is the share of label 1 (Platt 1999)."""
    positives, negatives = label.sum(), (1 - label).sum()
    target = np.where(label == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(theta: Floats) -> tuple[float, Floats]:
        logit = theta[0] * score + theta[1]
        value = float((np.logaddexp(0, logit) - target * logit).sum())
        rest = 1 / (1 + np.exp(-logit)) - target
        return value, np.array([inner(rest, score), rest.sum()])

    slope, shift = minimise(loss, np.array([1.0, 0.0]), tolerance=1e-8)
    return float(slope), float(shift)
