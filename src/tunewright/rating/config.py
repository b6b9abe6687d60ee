"""The options of `rate`, written `rate.KEY=VALUE` on the command line."""

from __future__ import annotations

import unicodedata
from typing import Any

from pydantic import Field, field_validator, model_validator

from tunewright.core.config import Section
from tunewright.core.listen import LOOPBACK

LONGEST_NAME = 40
DESIGN = ("seed", "repeats", "pairs_per_item", "max_items", "audience", "show_reference")
"""Options that a store keeps from its first start: changing them would change what raters already saw."""


class RateConfig(Section):
    """The rating page."""

    host: str = "127.0.0.1"
    """Address to listen on; anything but loopback needs `raters`, each with a token of their own."""
    port: int = Field(default=8900, ge=0, le=65535)
    """0 takes any free port."""
    raters: tuple[str, ...] = ()
    """Names that may rate, such as lin,mara. Each gets a link with a token. Empty: anyone on this machine, by name."""
    seed: int = Field(default=7, ge=0)
    """The order of the items and the sides of the answers follow from it."""
    repeats: float = Field(default=0.1, ge=0, le=0.5)
    """Share of the items that every rater sees a second time, with the sides swapped."""
    pairs_per_item: int = Field(default=1, ge=1)
    """With more than two systems: how many different pairs of them are shown for an item."""
    max_items: int | None = Field(default=None, ge=1)
    """Rate a random sample of so many items."""
    audience: str = ""
    """Who the answers are for; shown to the raters beside the third dimension."""
    show_reference: bool = True
    """Offer the reference answer, folded in."""

    @field_validator("raters", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [name for name in value.split(",") if name.strip()] if isinstance(value, str) else value

    @field_validator("raters")
    @classmethod
    def _are_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        names = tuple(rater_name(name) for name in value)
        if len({name.casefold() for name in names}) < len(names):
            raise ValueError("two raters have the same name")
        return names

    @model_validator(mode="after")
    def _tokens_off_loopback(self) -> RateConfig:
        if self.host not in LOOPBACK and not self.raters:
            raise ValueError(f"host {self.host} can be reached by others; name the raters, rate.raters=lin,mara")
        return self


def rater_name(given: str) -> str:
    """The name as it is stored: NFC, white space collapsed. Raises ValueError for none, a long or unprintable one."""
    name = " ".join(unicodedata.normalize("NFC", given).split())
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise ValueError(f"a rater's name has 1 to {LONGEST_NAME} printable characters")
    return name
