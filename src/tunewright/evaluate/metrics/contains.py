"""Does the expected text stand in the answer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tunewright.core.scoring import Measured, Sample
from tunewright.evaluate.metrics.characters import comparable
from tunewright.evaluate.metrics.counts import expected, rate
from tunewright.evaluate.metrics.options import ContainsOptions
from tunewright.evaluate.rows import applying, empty_answers, matches

VERSION = 1


class Contains:
    """`contains`, 0 to 1."""

    def __init__(self, options: ContainsOptions) -> None:
        self.options = options

    @staticmethod
    def metric_keys(options: ContainsOptions) -> list[str]:
        """Flat keys that `measure` produces."""
        return ["contains"]

    def applies(self, metadata: Mapping[str, Any]) -> bool:
        """Whether a row with this metadata is scored."""
        return matches(metadata, self.options.where)

    def measure(self, samples: Sequence[Sample]) -> list[Measured]:
        """Scores the samples that apply; none at all gives an empty list. A row that expects nothing is wrong, and
        counted in the signature."""
        rows = applying(samples, self.applies)
        if not rows:
            return []
        wanted = [_texts(expected(row, self.options.answer)) for row in rows]
        enough = all if self.options.wanted == "all" else any
        outcomes = [
            bool(texts) and enough(stands_in(text, comparable(row.prediction)) for text in texts)
            for row, texts in zip(rows, wanted, strict=True)
        ]
        nothing = sum(not texts for texts in wanted)
        signature = (
            f"compared:nfkc+casefold+spaces|whole words|wanted:{self.options.wanted}|empty:{empty_answers(rows)}"
        )
        return [rate("contains", VERSION, outcomes, signature=f"{signature}|rows that expect nothing:{nothing}")]


def _texts(value: Any) -> list[str]:
    found = value if isinstance(value, list | tuple) else [value]
    return [text for text in map(comparable, map(str, found)) if text]


def stands_in(wanted: str, text: str) -> bool:
    """Whether `wanted` stands in `text` and is no part of a longer word or number: 5 does not stand in 15 or 1.5.
    Both are `comparable`. Between Han characters there are no word limits."""
    before = r"(?<![a-z0-9])(?<!\d[.,])" if re.match("[a-z0-9]", wanted) else ""
    after = r"(?![a-z0-9])(?![.,]\d)" if re.search("[a-z0-9]$", wanted) else ""
    return bool(re.search(f"{before}{re.escape(wanted)}{after}", text))
