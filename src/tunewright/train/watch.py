"""Watching a training go wrong: losses that are no number, losses that run away, and a model that learns its rows by
heart. Functions from numbers to findings; nothing here knows torch.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from tunewright.core.errors import TunewrightError

Points = Sequence[tuple[int, float]]
"""(optimizer step, loss) in order."""
WINDOW = 50
FACTOR, MARGIN, PATIENCE = 3.0, 1.0, 5
"""Diverged: PATIENCE losses in a row above FACTOR times the median of the WINDOW before them, and MARGIN nats above."""
RISE, EVALUATIONS = 1.02, 2
"""Overfitting: the validation loss is 2 % above its lowest value, EVALUATIONS or more evaluations after it."""


class TrainingDiverged(TunewrightError):
    """The loss or the gradient is no number any more, or runs away. Checkpoints from step `since` on hold bad weights;
    the last one before is kept."""

    def __init__(self, problem: str, *, since: int, where: str, fix: str) -> None:
        super().__init__(problem, where=where, fix=fix)
        self.since = since


class LossWatch:
    """Notices a loss that runs away. losses: those of the steps so far (after a resume)."""

    def __init__(self, losses: Sequence[float] = ()) -> None:
        self._usual: deque[float] = deque(maxlen=WINDOW)
        self.high = 0
        for loss in losses:
            self.add(loss)

    def add(self, loss: float) -> bool:
        """Whether, with this step's loss, the training has diverged. High losses do not count as usual ones."""
        usual = self.usual
        self.high = self.high + 1 if self._usual and loss > max(FACTOR * usual, usual + MARGIN) else 0
        if not self.high:
            self._usual.append(loss)
        return self.high >= PATIENCE

    @property
    def usual(self) -> float:
        """Median of the losses before it ran away."""
        return statistics.median(self._usual) if self._usual else math.nan


@dataclass(frozen=True)
class Overfitting:
    """The validation loss rose from `best` (at `best_step`) to `last`, while the training loss fell."""

    best_step: int
    best: float
    last_step: int
    last: float


def overfitting(train: Points, validation: Points) -> Overfitting | None:
    """Whether, at the last evaluation, the model learns its rows by heart: the lowest validation loss is EVALUATIONS or
    more evaluations ago and clearly lower, and the training loss of the last interval is below that of the interval
    before the lowest."""
    if len(validation) <= EVALUATIONS:
        return None
    best = min(range(len(validation)), key=lambda index: validation[index][1])
    last = validation[-1]
    rose = len(validation) - 1 - best >= EVALUATIONS and last[1] > RISE * validation[best][1]
    start = validation[best - 1][0] if best else 0
    before, now = _mean(train, start, validation[best][0]), _mean(train, validation[-2][0], last[0])
    return Overfitting(*validation[best], *last) if rose and now < before else None


def ever_overfitted(train: Points, validation: Points) -> bool:
    """Whether it was so at any evaluation."""
    return any(overfitting(train, validation[:count]) for count in range(1, len(validation) + 1))


def _mean(points: Points, after: int, until: int) -> float:
    inside = [loss for step, loss in points if after < step <= until]
    return sum(inside) / len(inside) if inside else math.nan


def evaluations_without_improvement(objectives: Sequence[list[float]]) -> int:
    """How many of the last evaluations brought no new lowest value; 0 before the first. A later number of an objective
    decides where those before it are the same."""
    return len(objectives) - 1 - objectives.index(min(objectives)) if objectives else 0


def improvements(objectives: Sequence[list[float]]) -> int:
    """How many evaluations brought a new lowest value."""
    return sum(evaluations_without_improvement(objectives[:count]) == 0 for count in range(1, len(objectives) + 1))
