"""What an engine's thread hands to the event loop: pieces of text, faults and ends, in order and in one call a turn."""

from __future__ import annotations

import asyncio

from tunewright.serve.answers import Answer
from tunewright.serve.faults import EngineFault


class Outbox:
    """Filled and sent on the engine's thread. loop: where answers are read; None before the first request."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self._events: list[tuple[Answer, str | EngineFault | None]] = []

    def put(self, answer: Answer, event: str | EngineFault | None) -> None:
        """A piece of text, a fault, or None for the end of an answer."""
        self._events.append((answer, event))

    def send(self) -> None:
        """Hands over what this turn brought."""
        events, self._events = self._events, []
        if not events or self.loop is None:
            return
        try:
            self.loop.call_soon_threadsafe(_deliver, events)
        except RuntimeError:  # the loop is closed: nobody is left to read
            for answer, _ in events:
                answer.request.cancelled = True


def _deliver(events: list[tuple[Answer, str | EngineFault | None]]) -> None:
    for answer, event in events:
        answer.deliver(event)
