"""Conversations that two ways of rendering are compared on: with and without a system turn, one turn and several."""

from __future__ import annotations

from tunewright.core.chat import Message

_SYSTEM = Message(role="system", content="Answer in one sentence. 只用一句话回答。")
_ASKED = Message(role="user", content="How do I freeze my card?")
_ANSWERED = Message(role="assistant", content="In the app, under Cards. 在应用里。")
_AGAIN = Message(role="user", content="还要多久？  Two  spaces, 37.5%")

CONVERSATIONS: tuple[tuple[Message, ...], ...] = (
    (_ASKED,),
    (_ASKED, _ANSWERED, _AGAIN),
    (_ASKED, _ANSWERED, _AGAIN, _ANSWERED, _ASKED),
    (_SYSTEM, _ASKED),
    (_SYSTEM, _ASKED, _ANSWERED, _AGAIN),
)
"""Each ends with a question."""
