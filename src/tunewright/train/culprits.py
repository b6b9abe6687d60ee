"""When a training breaks: which rows did it, and which levers help."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tunewright.models.tokens import Example
from tunewright.train.config import TrainConfig
from tunewright.train.precision import name_of
from tunewright.train.watch import FACTOR, LossWatch, TrainingDiverged

Loss = Callable[[Any, Sequence[Example]], Tensor]
"""Sum of a micro-batch's loss."""
SHOWN = 8


def has_finite_gradient(model: Any) -> bool:
    """Whether the length of the whole gradient is a number."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return bool(torch.isfinite(torch.nn.utils.get_total_norm(gradients)))


@torch.no_grad()
def without_number(model: Any, group: Sequence[Example], loss: Loss) -> list[Example]:
    """The rows of a micro-batch whose own loss is no number; all of them where each alone has one."""
    model.eval()
    return [row for row in group if not math.isfinite(float(loss(model, [row])))] or list(group)


def without_gradient(model: Any, groups: Sequence[Sequence[Example]], loss: Loss) -> list[Example]:
    """The rows whose own gradient is no number; all of them where each alone has one. Overwrites the gradients."""
    rows = [row for group in groups for row in group]
    found = []
    for row in rows:
        model.zero_grad()
        loss(model, [row]).backward()
        if not has_finite_gradient(model):
            found.append(row)
    return found or rows


def no_number(what: str, step: int, rows: Sequence[Example], model: Any, levers: str) -> TrainingDiverged:
    """The error for a loss or gradient that is NaN or infinite."""
    has_good_weights = all(bool(torch.isfinite(p).all()) for p in model.parameters() if p.requires_grad)
    return broken(what, step, rows, levers, since=step if has_good_weights else step - 1)


def broken(what: str, step: int, rows: Sequence[Example], levers: str, *, since: int) -> TrainingDiverged:
    """The same where it is known from which step on the weights are bad."""
    return TrainingDiverged(
        f"the {what} of step {step} is no finite number; training stopped before this step changed a weight",
        since=since,
        where=_rows(rows),
        fix=f"look at what is special about these rows, or {levers}",
    )


def ran_away(watch: LossWatch, loss: float, step: int, rows: Sequence[Example], levers: str) -> TrainingDiverged:
    """The error for a loss that stays far above its usual value. A step's loss is that of the weights before it."""
    return TrainingDiverged(
        f"training diverged: for {watch.high} steps the loss was above {FACTOR:g} times its median of "
        f"{watch.usual:.3f}, at step {step} it is {loss:.3f}",
        since=step - watch.high,
        where=_rows(rows),
        fix=levers,
    )


def worst(groups: Sequence[Sequence[Example]], losses: Sequence[float]) -> Sequence[Example]:
    """The micro-batch with the highest loss a trained token. losses: summed over its tokens, in any unit."""
    by_token = [loss / sum(row.trained for row in group) for group, loss in zip(groups, losses, strict=True)]
    return groups[by_token.index(max(by_token))]


def levers_of(settings: TrainConfig, dtype: torch.dtype) -> str:
    """What to change, by key and value. dtype: of the multiplications."""
    levers = [
        f"lower train.learning_rate from {settings.learning_rate:g} to {settings.learning_rate / 5:g}",
        f"train.max_grad_norm from {settings.max_grad_norm:g} to {settings.max_grad_norm / 5:g}",
    ]
    if dtype != torch.float32:
        levers.append(f"use model.dtype=float32 instead of {name_of(dtype)}")
    return ", or ".join(levers)


def _rows(rows: Sequence[Example]) -> str:
    names = list(dict.fromkeys(row.row_id for row in rows))
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"row{'s' if len(names) > 1 else ''} {', '.join(names[:SHOWN])}{more}"
