"""From usable rows to splits, and what the report says of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from tunewright.core.errors import ConfigError
from tunewright.data.collection import seldom_collected
from tunewright.data.config import SplitConfig
from tunewright.data.draft import metadata_value
from tunewright.data.gather import Gathered
from tunewright.data.splits.assign import Split, assign, drawn
from tunewright.data.splits.documents import Document
from tunewright.data.splits.leakage import row_document
from tunewright.data.tokens.check import RowTokens, table
from tunewright.data.tokens.columns import TokenColumns

NAMES: tuple[Split, ...] = ("train", "validation", "test")
Assigned = Sequence[Split | None]


@seldom_collected()
def divide(rows: Gathered, config: SplitConfig, *, max_train_rows: int | None, seed: int) -> list[Split | None]:
    """The split of every usable row, None for training rows that the draw leaves out.

    Raises ConfigError when no row has the group or stratum key, ArtifactError when a split gets no row.
    """
    shared = rows.rows_of("shared")
    if shared and config.group_by and all(rows.members[row].group is None for row in shared):
        raise _no_such_key(config.group_by, "group_by", rows)
    if shared and config.stratify_by and all(rows.members[row].stratum is None for row in shared):
        raise _no_such_key(config.stratify_by, "stratify_by", rows)
    found: list[Split | None] = [None if pool == "shared" else pool for pool in rows.pools]
    assigned = assign([rows.members[row] for row in shared], _shares(config), seed=seed)
    for row, split in zip(shared, assigned, strict=True):
        found[row] = split
    train = [row for row, split in enumerate(found) if split == "train"]
    taken = drawn([rows.members[row].digest for row in train], max_train_rows, seed=seed)
    for position, row in enumerate(train):
        if position not in taken:
            found[row] = None
    return found


def _no_such_key(key: str, name: str, rows: Gathered) -> ConfigError:
    known = ", ".join(sorted(rows.metadata_keys)) or "none"
    return ConfigError(f"no row has the key '{key}'", where=f"data.split.{name}", fix=f"metadata keys: {known}")


def _shares(config: SplitConfig) -> Mapping[Split, float]:
    validation = 0.0 if config.validation_sources else config.validation
    return {"train": 1 - validation - config.test, "test": config.test, "validation": validation}


def describe(splits: Assigned) -> dict[str, Any]:
    """The part of report.json on splits. left_out: usable training rows beyond max_train_rows."""
    counts = {name: sum(split == name for split in splits) for name in NAMES}
    return {"splits": counts, "left_out": sum(split is None for split in splits)}


def token_numbers(rows: Gathered, splits: Assigned, *, more: TokenColumns) -> dict[str, Any]:
    """The token table of every split, and how long the training sequences are. more: variants in the training split."""
    found = {name: _tokens(rows, splits, name) for name in NAMES}
    found["train"] += more
    return {
        "splits": {name: table(tokens) for name, tokens in found.items()},
        "histogram": _length_histogram([row.longest for row in found["train"]]),
    }


def _length_histogram(lengths: Sequence[int], *, bars: int = 32) -> dict[str, list[int]]:
    """n counts of rows between n + 1 edges, by the tokens of their longest sequence."""
    edges = np.unique(np.linspace(0, max(lengths, default=0) + 1, bars + 1).astype(int))
    counts, _ = np.histogram(lengths, edges)
    return {"edges": edges.tolist(), "counts": counts.tolist()}


def _tokens(rows: Gathered, splits: Assigned, name: str) -> list[RowTokens]:
    if not len(rows.tokens):
        return []
    return [rows.tokens[row] for row, split in enumerate(splits) if split == name]


def document_of(row: Mapping[str, Any], group_by: str | None) -> Document:
    """A sealed row as the leakage table reads it."""
    return row_document(row, metadata_value(row["metadata"], group_by) if group_by else None)


class Documents:
    """The rows of a split as the leakage table reads them, as often as it likes."""

    def __init__(self, rows: Gathered, splits: Assigned, name: str, group_by: str | None) -> None:
        self._spool, self._group_by = rows.spool, group_by
        self._rows = [row for row, split in enumerate(splits) if split == name]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, position: int) -> Document:
        return document_of(self._spool.row(self._rows[position]), self._group_by)

    def __iter__(self) -> Iterator[Document]:
        lines = self._spool.lines(self._rows)
        return (document_of(orjson.loads(line), self._group_by) for line in lines)
