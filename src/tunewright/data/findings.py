"""What the data stage says of a row: where it stands, what was found, and what was done about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Action = Literal["kept", "repaired", "quarantined"]
RANK: dict[Action, int] = {"kept": 0, "repaired": 1, "quarantined": 2}
"""The worst action of a row's findings decides how the row is counted."""
EXCERPT_CHARS = 40


@dataclass(slots=True)
class Place:
    """Where a row starts. line: from 1; byte_offset: from 0, in the file as it is on disk. Nothing changes one; it is
    not frozen because there is one a row and a frozen dataclass takes five times as long to make."""

    source: str
    line: int
    byte_offset: int


@dataclass(frozen=True, slots=True)
class Note:
    """A finding before its place is known: what a reader or a rule says of the row in its hands."""

    code: str
    action: Action
    reason: str
    excerpt: str = ""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a row cannot be used."""

    code: str
    reason: str
    excerpt: str = ""

    def as_note(self) -> Note:
        """The same as a note with action quarantined."""
        return Note(self.code, "quarantined", self.reason, self.excerpt)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    source: str
    line: int
    byte_offset: int
    code: str
    action: Action
    reason: str
    excerpt: str


def excerpt(text: str, at: int = 0) -> str:
    """Up to 40 characters of `text` around position `at`, always writable as UTF-8."""
    start = max(0, min(at - EXCERPT_CHARS // 2, len(text) - EXCERPT_CHARS))
    return printable(text[start : start + EXCERPT_CHARS])


def printable(text: str) -> str:
    """`text` with half surrogate pairs spelled as escapes, which UTF-8 cannot hold."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def locate(place: Place, notes: Iterable[Note]) -> list[Finding]:
    """One finding a code: the first of its worst action (a row counts once for a code)."""
    worst: dict[str, Note] = {}
    for note in notes:
        known = worst.get(note.code)
        if known is None or RANK[note.action] > RANK[known.action]:
            worst[note.code] = note
    return [
        Finding(place.source, place.line, place.byte_offset, note.code, note.action, note.reason, note.excerpt)
        for note in worst.values()
    ]


def worst_action(findings: Iterable[Finding]) -> Action:
    """How a row with these findings is counted; a row without findings is kept."""
    return max((finding.action for finding in findings), key=RANK.__getitem__, default="kept")
