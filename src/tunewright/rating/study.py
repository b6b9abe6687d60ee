"""What is rated and what was said of it: items, votes, dimensions and levels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

DIMENSIONS = ("correctness", "interaction", "personalization")
LEVELS = ("bad", "usable", "good")
"""From the lowest: bad is 0, usable 1, good 2."""
Side = Literal["left", "right"]
SIDES: tuple[Side, Side] = ("left", "right")
PREFERENCES = ("left", "right", "tie", "both_bad")
SKIPPED = "skip"
"""The preference of a task that its rater could not judge: it is done, and counts nowhere."""


class Turn(BaseModel):
    """One turn of a prompt as it is shown."""

    model_config = ConfigDict(frozen=True)

    role: str
    content: str


class Item(BaseModel):
    """A prompt with the answers of all systems. answers: by system; origin: where the row comes from, for lineage."""

    model_config = ConfigDict(frozen=True)

    id: str
    turns: tuple[Turn, ...]
    reference: str = ""
    answers: dict[str, str]
    metadata: dict[str, Any] = {}
    origin: dict[str, Any] = {}


class Source(BaseModel):
    """A file or artifact that answers came from. sha256: of the file, or of the artifact's manifest."""

    model_config = ConfigDict(frozen=True)

    path: str
    sha256: str
    systems: tuple[str, ...]
    split: str = ""
    """`test` for the rows of an evaluation: training on them ends their use as a test."""


class Pool(BaseModel):
    """Everything that can be rated. notes: what was left out, in words."""

    model_config = ConfigDict(frozen=True)

    systems: tuple[str, ...]
    items: tuple[Item, ...]
    sources: tuple[Source, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a rater said of one task. preference: of PREFERENCES, or SKIPPED; levels: by side and dimension, 0 to 2;
    corrections: by side, only where the text was changed."""

    preference: str
    levels: dict[str, dict[str, int]] = field(default_factory=dict)
    note: str = ""
    corrections: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Vote:
    """A judgement with what it is about. item: its number; repeat_of: the position of the first showing."""

    number: int
    rater: str
    item: int
    item_id: str
    position: int
    repeat_of: int | None
    left: str
    right: str
    judgement: Judgement
    cast: str

    @property
    def outcome(self) -> str:
        """The preferred system, or `tie`, `both_bad`, `skip`."""
        named = {"left": self.left, "right": self.right}
        return named.get(self.judgement.preference, self.judgement.preference)

    @property
    def winner(self) -> str | None:
        """The preferred system, if one was."""
        return {"left": self.left, "right": self.right}.get(self.judgement.preference)

    @property
    def counts(self) -> bool:
        """Whether it enters the results: repeats only measure consistency, skipped tasks say nothing."""
        return self.repeat_of is None and self.judgement.preference != SKIPPED

    def level(self, system: str, dimension: str) -> int | None:
        """0, 1 or 2; None where it was not given."""
        side = "left" if system == self.left else "right"
        return self.judgement.levels.get(side, {}).get(dimension)
