"""How long a training is: steps and passes, whichever of them the project file gives."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tunewright.advise.facts import DataFacts
from tunewright.train.config import TrainConfig
from tunewright.train.plan import DEFAULT_EPOCHS, DEFAULT_ROWS


@dataclass(frozen=True)
class Length:
    """steps: optimizer steps in all; per_epoch: of one pass over the training rows."""

    steps: int
    per_epoch: int

    @property
    def epochs(self) -> float:
        """Passes over the rows."""
        return self.steps / self.per_epoch


def length_of(train: TrainConfig, data: DataFacts) -> Length:
    """As the train stage will plan it; with tokens_per_step an estimate from the mean row."""
    rows = train.rows_per_step or DEFAULT_ROWS
    if train.tokens_per_step:
        rows = max(1, round(train.tokens_per_step / max(1.0, data.mean_tokens)))
    per_epoch = max(1, math.ceil(data.rows / rows))
    steps = train.steps or max(1, round(per_epoch * (train.epochs or DEFAULT_EPOCHS)))
    return Length(steps, per_epoch)


def at_share(train: TrainConfig, data: DataFacts, share: float) -> TrainConfig:
    """The same training over `share` of its steps, with its whole schedule inside; all of it is `train` itself."""
    if share >= 1:
        return train
    steps = max(1, round(length_of(train, data).steps * share))
    return train.model_copy(update={"epochs": None, "steps": steps, "early_stopping": None})
