"""A conversation between reading and sealing: typed turns, metadata, and what was found so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

from tunewright.core.chat import Message
from tunewright.data.findings import Note, Rejection


@dataclass(frozen=True, slots=True)
class Masked:
    """A text that a rule replaced: what stands there now, what stood there, and of which kind it was."""

    placeholder: str
    original: str
    kind: str


@dataclass(slots=True)
class Draft:
    """Turns have known roles and text content (None only beside tool_calls); their order may still be wrong.

    tallies: numbers that are summed over all rows and shown in the report, such as {"pii.phone": 2}; masked: texts to
    write to the mapping file where a rule's options ask for one. Nothing changes a draft; it is not frozen because
    there are some a row and a frozen dataclass takes five times as long to make.
    """

    turns: tuple[Message, ...]
    metadata: dict[str, Any]
    notes: tuple[Note, ...] = ()
    tallies: Mapping[str, int] = field(default_factory=dict)
    masked: tuple[Masked, ...] = ()

    def changed(self, turns: Iterable[Message], *notes: Note) -> Draft:
        """The same with other turns and further notes."""
        return replace(self, turns=tuple(turns), notes=(*self.notes, *notes))

    def noted(self, *notes: Note) -> Draft:
        """The same with further notes."""
        return replace(self, notes=(*self.notes, *notes))

    def tallied(self, counts: Mapping[str, int]) -> Draft:
        """The same with `counts` added to its tallies."""
        return replace(self, tallies=Counter(self.tallies) + Counter(counts))


@runtime_checkable
class RowRule(Protocol):
    """A plug-in of the registry `rules`, constructed from its options."""

    def apply(self, draft: Draft) -> Draft | Rejection:
        """The repaired draft with its notes, or why the row cannot be used."""
        ...


@runtime_checkable
class SampleRule(Protocol):
    """A rule that makes several samples of one row, after all other rules; the row still counts once."""

    def samples(self, draft: Draft) -> list[Draft]:
        """At least one draft, in the order of the turns."""
        ...


def metadata_value(metadata: Mapping[str, Any], key: str) -> str | None:
    """The value of a dotted key such as `metadata.customer` as text; None where it is absent or null."""
    value: Any = metadata
    for part in key.removeprefix("metadata.").split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return None if value is None else str(value)
