"""The step plan: which rows each optimizer step sees, for the whole training, decided before it starts.

Trainer walks it in order, so a resumed training sees exactly the rows that are left (no replay).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tunewright.models.tokens import Example

Steps = list[list[int]]
"""Row indices of each optimizer step."""


@dataclass(frozen=True)
class StepPlan:
    """`steps` of all epochs; `per_epoch` optimizer steps make one pass over the rows."""

    steps: Steps
    per_epoch: float


def plan_steps(
    examples: Sequence[Example], *, epochs: float, rows_per_step: int | None, tokens_per_step: int | None, seed: int
) -> StepPlan:
    """Shuffles the rows anew each epoch and cuts them into steps by row or token count; a fractional epoch ends
    early. At least one step."""
    generator = random.Random(seed)  # noqa: S311 (no secret)
    sizes = [len(example.input_ids) for example in examples]
    steps: Steps = []
    wanted: float = 0
    for epoch in range(int(-(-epochs // 1))):
        order = list(range(len(examples)))
        generator.shuffle(order)
        cut = _by_tokens(order, sizes, tokens_per_step) if tokens_per_step else _by_rows(order, rows_per_step or 32)
        share = min(1.0, epochs - epoch)
        steps += cut[: max(1, round(len(cut) * share))]
        wanted += len(cut)
    return StepPlan(steps, per_epoch=wanted / int(-(-epochs // 1)))


def _by_rows(order: list[int], rows: int) -> Steps:
    return [order[start : start + rows] for start in range(0, len(order), rows)]


def _by_tokens(order: list[int], sizes: list[int], limit: int) -> Steps:
    steps: Steps = [[]]
    tokens = 0
    for row in order:
        if steps[-1] and tokens + sizes[row] > limit:
            steps.append([])
            tokens = 0
        steps[-1].append(row)
        tokens += sizes[row]
    return steps
