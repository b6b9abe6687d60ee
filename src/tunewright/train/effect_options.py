"""The `train.effect:` section of the project file."""

from __future__ import annotations

from pydantic import Field

from tunewright.core.config import Section

MINIMUM_ROWS = 8
"""Fewer held-out rows say nothing: their spread is not known well enough."""


class EffectConfig(Section):
    """Whether training had an effect, measured on held-out rows with the weights that were saved."""

    required: bool = True
    """Without a shown effect the stage fails (exit code 5). `false` lets it pass; the result is still said."""
    max_rows: int = Field(default=64, ge=MINIMUM_ROWS)
    """Held-out rows that are measured, drawn with the project's seed."""
    min_standard_errors: float = Field(default=2.0, gt=0)
    """How many standard errors the loss must differ by before the difference counts as shown."""
