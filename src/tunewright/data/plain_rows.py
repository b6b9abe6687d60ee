"""Rows as this program writes them, and as OpenAI's format has them: a list of turns with a role and a text each, and
metadata beside it. They need none of the questions that `formats` asks; every other row goes there."""

from __future__ import annotations

from typing import Any

from tunewright.core.chat import Message
from tunewright.data.draft import Draft
from tunewright.data.formats.names import NATIVE

_KEYS = ("conversation", "messages")
_VALUES = (str, int, float, bool, type(None))
"""Types that metadata keeps as they are; numbers in the spelling of the source have others."""


def plain_draft(row: Any) -> tuple[Draft, str] | None:
    """(the draft, the name of the format) that `recognise` and `build` make of a plain row, without a note; None for
    a row with anything else in it."""
    if type(row) is not dict:
        return None
    key = next(iter(row), "")
    turns = row[key] if key in _KEYS else None
    metadata = row.get("metadata") if len(row) == 2 else {} if len(row) == 1 else None
    if type(turns) is not list or not turns or type(metadata) is not dict or "tools" in metadata:
        return None
    for value in metadata.values():
        if type(value) not in _VALUES:
            return None
    messages = []
    for turn in turns:
        if type(turn) is not dict or len(turn) != 2:
            return None
        role, content = turn.get("role"), turn.get("content")
        if type(role) is not str or role not in NATIVE or type(content) is not str:
            return None
        messages.append(Message(role=NATIVE[role], content=content))
    return Draft(tuple(messages), metadata.copy()), key
