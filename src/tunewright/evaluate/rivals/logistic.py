"""Multinomial logistic regression by stochastic gradients, over sparse or dense rows. numpy alone.

Minimizes mean cross entropy + |weights|^2 / (2 C n), scikit-learn's objective without an intercept, by minibatches and
a step that falls to zero (Bottou 2012, "Stochastic Gradient Descent Tricks": one factor for all weights carries the
penalty, so that a step touches only the columns of its rows). On banking77 it is as accurate as the exact minimum
(tests/evaluate/rivals).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats32 = NDArray[np.float32]
Places = NDArray[np.int64]
BATCH = 8


class Rows(Protocol):
    """A matrix [n, width] of rows of length 1. rate: the first step's size; sparse rows share few columns and bear
    larger steps."""

    @property
    def rate(self) -> float: ...
    def __len__(self) -> int: ...
    @property
    def width(self) -> int: ...
    def block(self, rows: Places) -> tuple[Any, Floats32]:
        """(columns, the rows in these columns [len(rows), columns])."""
        ...


@dataclass(frozen=True)
class Sparse:
    """columns, values: of all rows one after the other; starts: [n + 1] where each row starts."""

    columns: Places
    values: Floats32
    starts: Places
    width: int
    rate: float = 30.0

    def __len__(self) -> int:
        return len(self.starts) - 1

    def block(self, rows: Places) -> tuple[Places, Floats32]:
        """Only the columns that these rows have."""
        parts = [np.arange(self.starts[row], self.starts[row + 1]) for row in rows]
        places = np.concatenate(parts) if parts else np.zeros(0, np.int64)
        used, inverse = np.unique(self.columns[places], return_inverse=True)
        dense = np.zeros((len(rows), len(used)), np.float32)
        dense[np.repeat(np.arange(len(rows)), [len(part) for part in parts]), inverse] = self.values[places]
        return used, dense


@dataclass(frozen=True)
class Dense:
    """values: [n, width]."""

    values: Floats32
    rate: float = 4.0

    def __len__(self) -> int:
        return len(self.values)

    @property
    def width(self) -> int:
        """Numbers a row."""
        return int(self.values.shape[1])

    def block(self, rows: Places) -> tuple[slice, Floats32]:
        """All columns."""
        return slice(None), self.values[rows]


def fit(rows: Rows, labels: Sequence[int], classes: int, *, strength: float, epochs: int, seed: int) -> Floats32:
    """Weights [width, classes]. labels: index of each row's class; strength: C."""
    n, right = len(rows), np.asarray(labels)
    weights, factor = np.zeros((rows.width, classes), np.float32), 1.0
    penalty, steps, done = 1.0 / (strength * n), epochs * -(-n // BATCH), 0
    generator = np.random.default_rng(seed)
    for _ in range(epochs):
        order = generator.permutation(n)
        for start in range(0, n, BATCH):
            chosen = order[start : start + BATCH]
            columns, block = rows.block(chosen)
            errors = softmax((block @ weights[columns]) * np.float32(factor))
            errors[np.arange(len(chosen)), right[chosen]] -= 1
            step = rows.rate * (1 - done / steps)
            factor *= 1 - step * penalty
            weights[columns] -= np.float32(step / factor / len(chosen)) * (block.T @ errors)
            done += 1
    return weights * np.float32(factor)


def scores(rows: Rows, weights: Floats32, *, at_once: int = 256) -> Floats32:
    """[n, classes]: the larger, the more probable."""
    found = [np.zeros((0, weights.shape[1]), np.float32)]
    for start in range(0, len(rows), at_once):
        columns, block = rows.block(np.arange(start, min(start + at_once, len(rows))))
        found.append(block @ weights[columns])
    return np.concatenate(found)


def softmax(values: Floats32) -> Floats32:
    """Probabilities a row."""
    powers = np.exp(values - values.max(1, keepdims=True))
    found: Floats32 = powers / powers.sum(1, keepdims=True)
    return found
