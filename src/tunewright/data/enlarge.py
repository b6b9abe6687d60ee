"""The training split made larger: variants of its rows, each proven like a row of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from tunewright.core import files
from tunewright.core.events import track
from tunewright.core.registry import PluginOptions
from tunewright.data.augment.engine import Dropped, Summary, augment
from tunewright.data.draft import metadata_value
from tunewright.data.findings import Rejection
from tunewright.data.splits.leakage import Document, document
from tunewright.data.spool import parsed, row_line
from tunewright.data.tokens.check import TokenCheck

TRAIN = "train.jsonl"


def add_variants(
    folder: Path,
    augmenters: Sequence[PluginOptions],
    *,
    check: TokenCheck,
    asked: Collection[bytes],
    rows: int,
    seed: int,
    root: Path,
) -> dict[str, Any]:
    """Appends the variants of training rows to train.jsonl and returns the part of report.json on them.

    A variant that the model cannot be trained on is dropped (TOKENS). rows: of the file, for the progress line; asked:
    `question_digest` of all rows: a variant that asks what another row asks is dropped.
    """
    path, book = folder / TRAIN, Summary()
    with files.atomic_write(path, "wb") as handle:
        with path.open("rb") as before:
            handle.writelines(before)
        conversations = (parsed(line) for line in _lines(path))
        for made in augment(track(conversations, "augmenting", rows), augmenters, seed=seed, root=root, asked=asked):
            tokens = None if isinstance(made, Dropped) else check.measure(made.conversation)
            if isinstance(tokens, Rejection) and not isinstance(made, Dropped):
                made = Dropped(made.parent, made.by, "TOKENS", tokens.reason)
            book.add(made)
            if not isinstance(made, Dropped):
                handle.write(row_line(made.conversation.to_row()) + b"\n")
    return book.dump()


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as handle:
        yield from handle


class TrainDocuments:
    """The rows of train.jsonl with their variants, as often as the leakage table reads them."""

    def __init__(self, folder: Path, group_by: str | None) -> None:
        self._path, self._group_by = folder / TRAIN, group_by

    def __iter__(self) -> Iterator[Document]:
        for line in _lines(self._path):
            conversation = parsed(line)
            group = metadata_value(conversation.metadata, self._group_by) if self._group_by else None
            yield document(conversation, group)
