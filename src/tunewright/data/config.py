"""The `data:` section of the project file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tunewright.core.config import Section
from tunewright.core.registry import Chosen, Entry, PluginOptions, Registry
from tunewright.data.annotation.options import AnnotationConfig
from tunewright.data.augment.registry import AUGMENTERS
from tunewright.data.duplicates.options import NearDuplicateOptions
from tunewright.data.rules.options import ForgedTurnsOptions, RolesOptions, SecretsOptions, TextOptions
from tunewright.data.splits.options import LeakageLimits

RULES = Registry(
    "rules",
    {
        "roles": Entry("tunewright.data.rules.roles:Roles", "tunewright.data.rules.options:RolesOptions"),
        "text": Entry("tunewright.data.rules.text:Text", "tunewright.data.rules.options:TextOptions"),
        "near_duplicate": Entry(
            "tunewright.data.duplicates.rule:NearDuplicate", "tunewright.data.duplicates.options:NearDuplicateOptions"
        ),
        "length": Entry("tunewright.data.rules.length:Length", "tunewright.data.rules.options:LengthOptions"),
        "turns": Entry("tunewright.data.rules.turns:Turns", "tunewright.data.rules.options:TurnsOptions"),
        "language": Entry("tunewright.data.rules.language:Language", "tunewright.data.rules.options:LanguageOptions"),
        "domain": Entry("tunewright.data.rules.domain:Domain", "tunewright.data.rules.options:DomainOptions"),
        "redact": Entry("tunewright.data.rules.redact:Redact", "tunewright.data.rules.options:RedactOptions"),
        "secrets": Entry("tunewright.data.rules.secrets:Secrets", "tunewright.data.rules.options:SecretsOptions"),
        "toxicity": Entry("tunewright.data.rules.toxicity:Toxicity", "tunewright.data.rules.options:ToxicityOptions"),
        "forged_turns": Entry(
            "tunewright.data.rules.forged_turns:ForgedTurns", "tunewright.data.rules.options:ForgedTurnsOptions"
        ),
    },
)


Rule = Annotated[PluginOptions, Chosen(RULES)]
Augmentation = Annotated[PluginOptions, Chosen(AUGMENTERS)]


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
    stratify_by: str | None = None
    """A metadata key such as `metadata.intent`: every split holds each value in its share, as groups allow."""

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
    """Files or patterns such as `raw/*.jsonl`, relative to the project file; `builtin:bank` is the built-in data."""
    system: str | None = None
    """System turn for conversations that have none."""
    rules: tuple[Rule, ...] = (
        RolesOptions(),
        TextOptions(),
        ForgedTurnsOptions(),
        SecretsOptions(),
        NearDuplicateOptions(),
    )
    """What is repaired or quarantined, in this order; a list here takes the place of this one."""
    split: SplitConfig = SplitConfig()
    leakage_sets: tuple[str, ...] = ()
    """Files of other test sets that the training split is compared with, such as a public benchmark."""
    max_leakage: LeakageLimits = LeakageLimits()
    """How many rows of validation, test and each leakage set may stand in the training split: above, exit code 5."""
    augment: tuple[Augmentation, ...] = ()
    """Variants of training rows, made after the split; each names its parent (docs/guides/augment.md)."""
    annotation: AnnotationConfig | None = None
    """Labels of several annotators: their agreement and consensus (docs/guides/annotation.md)."""
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
    workers: int | None = Field(default=None, ge=1, le=256)
    """Processes that prepare rows; the result is the same for any number. Default: by size and cores."""
