"""The training split made larger: variants of its rows, each proven like a row of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from tunewright.core import files
from tunewright.core.events import track
from tunewright.core.registry import PluginOptions
from tunewright.data.augment.engine import Dropped, Summary, Variant, augment
from tunewright.data.findings import Rejection
from tunewright.data.splits.divide import document_of
from tunewright.data.splits.leakage import Document
from tunewright.data.spool import parsed, row_line
from tunewright.data.tokens.check import RULES, RowTokens, TokenCheck
from tunewright.data.tokens.columns import TokenColumns

TRAIN = "train.jsonl"


@dataclass(frozen=True)
class Variants:
    """What was added: the part of report.json on it, and the token numbers of the rows."""

    report: dict[str, Any]
    tokens: TokenColumns


def add_variants(
    folder: Path,
    augmenters: Sequence[PluginOptions],
    *,
    check: TokenCheck,
    asked: Collection[bytes],
    rows: int,
    seed: int,
    root: Path,
) -> Variants:
    """Appends the variants of training rows to train.jsonl.

    A variant that the model cannot be trained on is dropped (TOKENS). rows: of the file, for the progress line; asked:
    `question_digest` of all rows: a variant that asks what another row asks is dropped.
    """
    path, book, numbers = folder / TRAIN, Summary(), TokenColumns()
    if not augmenters:
        return Variants({}, numbers)
    with files.atomic_write(path, "wb") as handle:
        with path.open("rb") as before:
            handle.writelines(before)
        conversations = track((parsed(line) for line in _lines(path)), "augmenting", rows)
        for made in augment(conversations, augmenters, seed=seed, root=root, asked=asked):
            proven = _proven(made, check) if isinstance(made, Variant) else made
            if isinstance(proven, Dropped):
                book.add(proven)
                continue
            assert isinstance(made, Variant)
            book.add(made)
            numbers.append(proven)
            handle.write(row_line(made.conversation.to_row()) + b"\n")
    return Variants(book.dump(), numbers)


def _proven(made: Variant, check: TokenCheck) -> RowTokens | Dropped:
    """The token numbers of a variant, or why it is not used: what stops the stage for a row drops a variant."""
    tokens = check.measure(made.conversation)
    if isinstance(tokens, Rejection):
        return Dropped(made.parent, made.by, "TOKENS", tokens.reason)
    if tokens.breaches:
        return Dropped(made.parent, made.by, "TOKENS", RULES[tokens.breaches[0]])
    return tokens


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as handle:
        yield from handle


class TrainDocuments:
    """The rows of train.jsonl with their variants, as often as the leakage table reads them."""

    def __init__(self, folder: Path, group_by: str | None) -> None:
        self._path, self._group_by = folder / TRAIN, group_by

    def __iter__(self) -> Iterator[Document]:
        return (document_of(orjson.loads(line), self._group_by) for line in _lines(self._path))
