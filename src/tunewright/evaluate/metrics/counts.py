"""Statistics that several metrics share: yes/no rates, ratios of sums, and what a row expects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tunewright.core.scoring import Floats, Measured, Sample, mean_of_rows
from tunewright.evaluate.rows import metadata_at


def rate(
    metric: str, version: int, outcomes: Sequence[bool], *, signature: str, higher_is_better: bool = True
) -> Measured:
    """A yes/no rate over the rows, 0 to 1, with Wilson interval and McNemar."""
    statistics = np.array(outcomes, dtype=float)[:, None]
    return Measured(
        metric, version, statistics, mean_of_rows, yes_no=True, higher_is_better=higher_is_better, signature=signature
    )


def ratio(metric: str, version: int, parts: Sequence[tuple[float, float]], *, signature: str) -> Measured:
    """Sum of the first column over the sum of the second; 1 where the second is 0 (nothing to get wrong)."""
    return Measured(metric, version, np.array(parts, dtype=float), ratio_of_sums, signature=signature)


def ratio_of_sums(statistics: Floats) -> Floats:
    """The aggregate of `ratio`: [R, n, 2] -> [R]."""
    sums = statistics.sum(axis=1)
    found: Floats = np.where(sums[:, 1] > 0, sums[:, 0] / np.maximum(sums[:, 1], 1e-300), 1.0)
    return found


def expected(sample: Sample, key: str) -> Any:
    """The right answer of a row: what stands at the metadata key, where one is named and the row has it, else the
    reference."""
    found = metadata_at(sample.metadata, key) if key else None
    return sample.reference if found is None else found
