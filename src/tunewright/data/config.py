"""The `data:` section of the project file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tunewright.core.config import Section
from tunewright.core.registry import Chosen, Entry, PluginOptions, Registry
from tunewright.data.rules.options import RolesOptions, TextOptions

RULES = Registry(
    "rules",
    {
        "roles": Entry("tunewright.data.rules.roles:Roles", "tunewright.data.rules.options:RolesOptions"),
        "text": Entry("tunewright.data.rules.text:Text", "tunewright.data.rules.options:TextOptions"),
        "length": Entry("tunewright.data.rules.length:Length", "tunewright.data.rules.options:LengthOptions"),
    },
)


Rule = Annotated[PluginOptions, Chosen(RULES)]


class SplitConfig(Section):
    """How rows are divided. Rows that share the group key, and exact duplicates, are never separated."""

    validation: float = Field(default=0.1, gt=0, lt=0.5)
    """Share of rows for the validation loss."""
    test: float = Field(default=0.2, ge=0, lt=0.8)
    """Share of rows that only `evaluate` sees."""
    group_by: str | None = None
    """A metadata key such as `metadata.customer`: all rows of one value go to one split."""
    test_sources: tuple[str, ...] = ()
    """Files that are the test split as they are; then `test` must be 0."""
    validation_sources: tuple[str, ...] = ()
    """Files that are the validation split as they are; then `validation` is not used."""

    @model_validator(mode="after")
    def _one_test(self) -> SplitConfig:
        if self.test_sources and self.test:
            raise ValueError("test_sources and a test share exclude each other; set test: 0")
        return self

    @model_validator(mode="after")
    def _rows_left_to_train(self) -> SplitConfig:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together leave no row to train on")
        return self


class DataConfig(Section):
    """From raw files to checked, split conversations."""

    sources: tuple[str, ...] = Field(min_length=1)
    """JSONL or JSON array files, relative to the project file; `builtin:bank` is the built-in data."""
    system: str | None = None
    """System turn for conversations that have none."""
    rules: tuple[Rule, ...] = (RolesOptions(), TextOptions())
    """What is repaired or quarantined, in this order."""
    split: SplitConfig = SplitConfig()
    keep: dict[str, tuple[str, ...]] = {}
    """Only rows whose metadata value is listed, for example `{metadata.intent: [card_lost, pin_reset]}`."""
    max_train_rows: int | None = Field(default=None, ge=1)
    """At most this many training rows, drawn with the project's seed."""
    max_quarantined: float = Field(default=0.05, ge=0, le=1)
    """Largest share of quarantined rows (duplicates apart) before the stage fails with exit code 5."""
    max_chars: int = Field(default=1_000_000, ge=100)
    """A longer line is quarantined without being parsed."""
    encoding: Literal["auto", "utf-8", "utf-16", "gb18030"] = "auto"
    """How the sources are encoded; `auto` looks at their bytes."""
