"""Exact match: is the answer the reference, apart from case, width and what stands around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunewright.core.scoring import Measured, Sample
from tunewright.evaluate.metrics.characters import comparable
from tunewright.evaluate.metrics.counts import expected, rate
from tunewright.evaluate.metrics.options import ExactOptions
from tunewright.evaluate.rows import applying, empty_answers, matches

VERSION = 1


class Exact:
    """`exact`, 0 to 1."""

    def __init__(self, options: ExactOptions) -> None:
        self.options = options

    @staticmethod
    def metric_keys(options: ExactOptions) -> list[str]:
        """Flat keys that `measure` produces."""
        return ["exact"]

    def applies(self, metadata: Mapping[str, Any]) -> bool:
        """Whether a row with this metadata is scored."""
        return matches(metadata, self.options.where)

    def measure(self, samples: Sequence[Sample]) -> list[Measured]:
        """Scores the samples that apply; none at all gives an empty list. An empty prediction is wrong."""
        rows = applying(samples, self.applies)
        if not rows:
            return []
        said = [comparable(row.prediction) for row in rows]
        right = [comparable(str(expected(row, self.options.answer))) for row in rows]
        outcomes = [bool(ours) and ours == theirs for ours, theirs in zip(said, right, strict=True)]
        signature = f"compared:nfkc+casefold+spaces+edges|empty:{empty_answers(rows)}"
        return [rate("exact", VERSION, outcomes, signature=signature)]
