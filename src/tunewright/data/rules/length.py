"""Conversations that are too long."""

from __future__ import annotations

import json

from tunewright.data.draft import Draft
from tunewright.data.findings import Rejection, excerpt
from tunewright.data.rules.options import LengthOptions


class Length:
    """The rule `length`."""

    def __init__(self, options: LengthOptions) -> None:
        self.options = options

    def apply(self, draft: Draft) -> Draft | Rejection:
        """Counts the characters of all turns, tool calls as JSON included."""
        chars = sum(len(turn.content or "") for turn in draft.turns)
        chars += sum(len(json.dumps(turn.tool_calls, ensure_ascii=False)) for turn in draft.turns if turn.tool_calls)
        if chars <= self.options.max_chars:
            return draft
        reason = f"{chars} characters, limit {self.options.max_chars}"
        return Rejection("TOO_LONG", reason, excerpt(draft.turns[0].content or ""))
