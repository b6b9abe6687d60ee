"""The `release:` section of the project file."""

from __future__ import annotations

from pydantic import Field

from tunewright.core.config import Section


class ReleaseConfig(Section):
    """Who may promote a model, and what its card says beside the numbers."""

    approvals: int = Field(default=1, ge=1, le=5)
    """How many different people (`--by`) must promote the same artifact before the pointer moves."""
    license: str = ""
    """Licence of the base model, as its publisher names it; by default what the base's folder says."""
    intended_for: str = ""
    """What the model is for, in a sentence for the model card."""
    not_for: tuple[str, ...] = (
        "decisions about people without a person who checks them",
        "questions outside the data that it was trained and tested on",
    )
    """What the model is not for, a sentence each."""
