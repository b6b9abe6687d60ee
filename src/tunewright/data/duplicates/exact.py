"""Rows with the same messages."""

from __future__ import annotations

from typing import Literal

from tunewright.data.findings import Finding, Place, excerpt
from tunewright.data.prepare import Outcome


class Seen:
    """The messages met so far, by pool."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, bytes], str] = {}

    def settle(self, row_id: str, place: Place, outcome: Outcome, *, pool: str) -> Outcome:
        """The outcome with a finding DUPLICATE where an earlier row of `pool` has the same messages: quarantined in
        the shared pool, kept in a split that is given as a file."""
        if outcome.usable is None:
            return outcome
        twin = self._first.setdefault((pool, outcome.usable.member.digest), row_id)
        if twin == row_id:
            return outcome
        action: Literal["kept", "quarantined"] = "quarantined" if pool == "shared" else "kept"
        shown = excerpt(outcome.usable.conversation.reference)
        finding = Finding(
            place.source, place.line, place.byte_offset, "DUPLICATE", action, f"the same messages as {twin}", shown
        )
        return outcome.with_finding(finding, action)
