"""Preparing rows on one core or on several, in the same order and with the same bytes."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tunewright.core.machine import usable_cores
from tunewright.core.registry import PluginOptions
from tunewright.data.collection import seldom_collected
from tunewright.data.findings import Place
from tunewright.data.prepare import Outcome, Preparation, Selection, rules_of
from tunewright.data.reading.record import Record
from tunewright.data.reading.records import Row, parse_record
from tunewright.data.tokens.check import TokenCheck
from tunewright.models.tokens import ChatTokenizer

_BATCH_ROWS = 256
_BATCH_BYTES = 4 << 20
_WAITING_A_WORKER = 3
_WORTH_BYTES = 16 << 20
_MOST = 8


@dataclass(slots=True)
class Prepared:
    """A row's outcome with what is still needed of the row. Nothing changes one; it is not frozen, see Record."""

    id: str
    place: Place
    size: int
    outcome: Outcome
    text: Row | str | None = None
    """The row, or its text alone where it came from another process."""

    @property
    def raw(self) -> str | None:
        """The row's own text, None where it has none."""
        return self.text.raw if isinstance(self.text, Row) else self.text


@dataclass(frozen=True)
class Recipe:
    """All that a process needs to prepare rows: picklable. tokenizer: the model's folder, None for no token check;
    is_lenient: see Preparation; fast: short ways are taken where they are proven to end at the same, False takes none
    from the reader to the tokens."""

    rules: tuple[PluginOptions, ...]
    selection: Selection
    tokenizer: Path | None
    max_length: int
    is_lenient: bool = False
    fast: bool = True

    def check(self) -> TokenCheck | None:
        """The token check; loads the tokenizer."""
        if self.tokenizer is None:
            return None
        tokenizer = ChatTokenizer.load(self.tokenizer)
        tokenizer.segments.uses_words = tokenizer.frames.is_used = self.fast
        tokenizer.segments.is_used &= self.fast
        return TokenCheck(tokenizer, max_length=self.max_length, quick=self.fast)

    def preparation(self, check: TokenCheck | None) -> Preparation:
        """The rules and the token check at work."""
        return Preparation(
            rules_of(self.rules), tokens=check, selection=self.selection, is_lenient=self.is_lenient, fast=self.fast
        )


def how_many(wanted: int | None, size: int) -> int:
    """Processes for sources of `size` bytes: starting them pays from some megabytes on."""
    return wanted or (min(usable_cores(), _MOST) if size > _WORTH_BYTES else 1)


def prepare_all(
    records: Iterable[Record], recipe: Recipe, *, check: TokenCheck | None, workers: int
) -> Iterator[Prepared]:
    """The outcome of every record, in order. check: the recipe's own, for this process; workers: processes, 1 works in
    this one."""
    if workers <= 1:
        yield from _prepared(recipe.preparation(check), records, recipe.fast)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_start, initargs=(recipe,)) as pool:
        waiting: deque[Future[list[Prepared]]] = deque()
        for batch in _batches(records):
            waiting.append(pool.submit(_work, batch))
            if len(waiting) > workers * _WAITING_A_WORKER:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _prepared(preparation: Preparation, records: Iterable[Record], fast: bool) -> Iterator[Prepared]:
    for record in records:
        row = parse_record(record, fast=fast)
        yield Prepared(record.id, record.place, record.size, preparation.prepare(row), row)


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Batches that are short in rows and in bytes, so that a few wait for each worker in bounded memory."""
    source = iter(records)
    while batch := list(islice(source, 1)):
        size = batch[0].size
        while size < _BATCH_BYTES and len(batch) < _BATCH_ROWS and (more := next(source, None)) is not None:
            batch.append(more)
            size += more.size
        yield batch


_AT_WORK: list[tuple[Preparation, bool]] = []
"""The preparation of this worker process, made once by its initializer, and whether it is fast."""


def _start(recipe: Recipe) -> None:
    _AT_WORK[:] = [(recipe.preparation(recipe.check()), recipe.fast)]


@seldom_collected()
def _work(batch: Sequence[Record]) -> list[Prepared]:
    preparation, fast = _AT_WORK[0]
    found = list(_prepared(preparation, batch, fast))
    for prepared in found:
        prepared.text = prepared.raw
    return found
