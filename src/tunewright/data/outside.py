"""A test set that is not part of the project, read for the leakage table only."""

from __future__ import annotations

from collections.abc import Iterator

from tunewright.data.prepare import Preparation, Selection, rules_of
from tunewright.data.reading.rows import read_rows
from tunewright.data.rules.options import RolesOptions, TextOptions
from tunewright.data.sources import Source
from tunewright.data.splits.leakage import Document, document


class OutsideSet:
    """The usable rows of a file, as often as the table reads them. Rows that cannot be used are passed over."""

    def __init__(self, source: Source, max_chars: int) -> None:
        self._source, self._max_chars = source, max_chars

    def __iter__(self) -> Iterator[Document]:
        preparation = Preparation(rules_of((RolesOptions(), TextOptions())), selection=Selection())
        source = self._source
        for row in read_rows(source.path, source=source.name, layout=source.layout, max_chars=self._max_chars):
            usable = preparation.prepare(row).usable
            if usable:
                yield document(usable.conversation)
