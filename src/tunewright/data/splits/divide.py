"""From usable rows to splits, and what the report says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunewright.core.errors import ConfigError
from tunewright.data.config import SplitConfig
from tunewright.data.gather import Gathered
from tunewright.data.splits.assign import Member, Split, assign, drawn, leakage
from tunewright.data.tokens.check import RowTokens, table

NAMES: tuple[Split, ...] = ("train", "validation", "test")
Assigned = Sequence[Split | None]


def divide(rows: Gathered, config: SplitConfig, *, max_train_rows: int | None, seed: int) -> list[Split | None]:
    """The split of every usable row, None for training rows that the draw leaves out.

    Raises ConfigError when no row has the group key, ArtifactError when a split gets no row.
    """
    shared = [row for row, pool in enumerate(rows.pools) if pool == "shared"]
    if config.group_by and shared and not any(rows.members[row].group is not None for row in shared):
        known = ", ".join(sorted(rows.metadata_keys)) or "none"
        raise ConfigError(
            f"no row has the key '{config.group_by}'", where="data.split.group_by", fix=f"metadata keys: {known}"
        )
    found: list[Split | None] = [None if pool == "shared" else pool for pool in rows.pools]
    for row, split in zip(
        shared, assign([rows.members[row] for row in shared], _shares(config), seed=seed), strict=True
    ):
        found[row] = split
    train = [row for row, split in enumerate(found) if split == "train"]
    taken = drawn([rows.members[row].digest for row in train], max_train_rows, seed=seed)
    for position, row in enumerate(train):
        if position not in taken:
            found[row] = None
    return found


def _shares(config: SplitConfig) -> Mapping[Split, float]:
    validation = 0.0 if config.validation_sources else config.validation
    return {"train": 1 - validation - config.test, "test": config.test, "validation": validation}


def describe(rows: Gathered, splits: Assigned) -> dict[str, Any]:
    """The part of report.json on splits. left_out: usable training rows beyond max_train_rows."""
    counts = {name: sum(split == name for split in splits) for name in NAMES}
    train = _members(rows, splits, "train")
    to_test, to_validation = (leakage(train, _members(rows, splits, name)) for name in ("test", "validation"))
    return {
        "splits": counts,
        "left_out": sum(split is None for split in splits),
        "leakage": {
            "exact": to_test["exact"],
            "groups": to_test["groups"],
            "validation_exact": to_validation["exact"],
            "validation_groups": to_validation["groups"],
        },
    }


def token_tables(rows: Gathered, splits: Assigned) -> dict[str, Any]:
    """The token table of every split."""
    return {name: table(_tokens(rows, splits, name)) for name in NAMES}


def _members(rows: Gathered, splits: Assigned, name: str) -> list[Member]:
    return [member for member, split in zip(rows.members, splits, strict=True) if split == name]


def _tokens(rows: Gathered, splits: Assigned, name: str) -> list[RowTokens]:
    return [tokens for tokens, split in zip(rows.tokens, splits, strict=True) if split == name]
