"""The token numbers of many rows in compact columns: a million rows take 64 MB."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from operator import attrgetter

import numpy as np

from tunewright.data.tokens.check import RowTokens

_NAMES = ("sequences", "tokens", "trained", "longest", "bos", "end_tokens", "cut", "control_texts")
_numbers_of = attrgetter(*_NAMES)


class TokenColumns:
    """A list of RowTokens that keeps numbers only; rows with a breach are few and kept apart."""

    def __init__(self) -> None:
        self._numbers = array("q")
        self._breaches: dict[int, tuple[str, ...]] = {}

    def __len__(self) -> int:
        return len(self._numbers) // len(_NAMES)

    def append(self, row: RowTokens) -> None:
        """Adds a row."""
        if row.breaches:
            self._breaches[len(self)] = row.breaches
        self._numbers.extend(_numbers_of(row))

    def __getitem__(self, row: int) -> RowTokens:
        start = row * len(_NAMES)
        values = dict(zip(_NAMES, self._numbers[start : start + len(_NAMES)], strict=True))
        return RowTokens(**values, breaches=self._breaches.get(row, ()))

    def __iter__(self) -> Iterator[RowTokens]:
        return (self[row] for row in range(len(self)))

    def only(self, rows: Sequence[int]) -> TokenColumns:
        """The columns of these rows, in this order."""
        found = TokenColumns()
        table = np.array(self._numbers, np.int64).reshape(-1, len(_NAMES))
        found._numbers.frombytes(table[np.asarray(rows, np.int64)].tobytes())
        found._breaches = {at: self._breaches[row] for at, row in enumerate(rows) if row in self._breaches}
        return found

    def first_breach(self) -> int | None:
        """The first row with a breach."""
        return min(self._breaches, default=None)
