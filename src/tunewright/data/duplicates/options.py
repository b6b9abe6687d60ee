"""What a project file may say of near duplicates."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tunewright.core.registry import PluginOptions


class NearDuplicateOptions(PluginOptions):
    """Takes out all but the first of conversations that are nearly the same; the clusters are in the report."""

    name: Literal["near_duplicate"] = "near_duplicate"
    threshold: float = Field(default=0.7, ge=0.3, le=1)
    """Jaccard similarity of the character 5-grams from which two conversations are near duplicates."""
    action: Literal["quarantine", "report"] = "quarantine"
    """`report` keeps them; they then go to one split together."""
    rensa: bool = False
    """Draws with the library rensa. It and numpy draw other permutations, so pairs at the border may differ."""
