"""A conversation between reading and sealing: typed turns, metadata, and what was found so far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from tunewright.core.chat import Message
from tunewright.data.findings import Note, Rejection


@dataclass(frozen=True)
class Draft:
    """Turns have known roles and text content (None only beside tool_calls); their order may still be wrong."""

    turns: tuple[Message, ...]
    metadata: dict[str, Any]
    notes: tuple[Note, ...] = ()

    def changed(self, turns: Iterable[Message], *notes: Note) -> Draft:
        """The same with other turns and further notes."""
        return replace(self, turns=tuple(turns), notes=(*self.notes, *notes))

    def noted(self, *notes: Note) -> Draft:
        """The same with further notes."""
        return replace(self, notes=(*self.notes, *notes))


class RowRule(Protocol):
    """A plug-in of the registry `rules`, constructed from its options."""

    def apply(self, draft: Draft) -> Draft | Rejection:
        """The repaired draft with its notes, or why the row cannot be used."""
        ...


def metadata_value(metadata: Mapping[str, Any], key: str) -> str | None:
    """The value of a dotted key such as `metadata.customer` as text; None where it is absent or null."""
    value: Any = metadata
    for part in key.removeprefix("metadata.").split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return None if value is None else str(value)
