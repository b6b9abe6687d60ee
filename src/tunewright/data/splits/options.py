"""What a project file may say of leakage between splits."""

from __future__ import annotations

from pydantic import Field

from tunewright.core.config import Section


class LeakageLimits(Section):
    """How many rows of a validation, test or named external set may also stand in training; null: only reported."""

    exact: int | None = Field(default=0, ge=0)
    """Rows that ask a training row's question, after normalisation."""
    near: int | None = Field(default=None, ge=0)
    """Rows that are near duplicates of a training row."""
    overlap: int | None = Field(default=None, ge=0)
    """Rows that share 13 words or 20 Han characters in a row with a training row."""
    groups: int | None = Field(default=None, ge=0)
    """Rows whose group value a training row has too."""
