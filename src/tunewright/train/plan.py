"""The step plan: which rows each optimizer step sees, for the whole training, decided before it starts.

Trainer walks it in order, so a resumed training sees exactly the rows that are left (no replay).
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from tunewright.models.tokens import Example

Steps = list[list[int]]
"""Row indices of each optimizer step."""
DEFAULT_EPOCHS = 3.0
DEFAULT_ROWS = 32


@dataclass(frozen=True)
class StepPlan:
    """`steps` of all epochs; `per_epoch` optimizer steps make one pass over the rows."""

    steps: Steps
    per_epoch: float


def plan_steps(
    examples: Sequence[Example],
    *,
    epochs: float | None = None,
    steps: int | None = None,
    rows_per_step: int | None = None,
    tokens_per_step: int | None = None,
    seed: int,
) -> StepPlan:
    """Shuffles the rows anew each epoch and cuts them into steps by row count (default 32) or token count.

    Ends after `steps` steps, else after `epochs` passes (default 3); a fractional epoch ends early. At least one step.
    """
    generator = random.Random(seed)  # noqa: S311 (no secret)
    sizes = [len(example.input_ids) for example in examples]
    passes = math.inf if steps else epochs or DEFAULT_EPOCHS
    planned: Steps = []
    cuts: list[int] = []
    while len(cuts) < passes and (not steps or len(planned) < steps):
        order = list(range(len(examples)))
        generator.shuffle(order)
        rows = rows_per_step or DEFAULT_ROWS
        cut = _by_tokens(order, sizes, tokens_per_step) if tokens_per_step else _by_rows(order, rows)
        share = min(1.0, passes - len(cuts))
        planned += cut[: max(1, round(len(cut) * share))]
        cuts.append(len(cut))
    return StepPlan(planned[:steps], per_epoch=sum(cuts) / len(cuts))


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
