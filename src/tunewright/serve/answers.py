"""What an engine is to the HTTP layer: it takes a conversation and gives an Answer, or says why not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Literal, Protocol

from tunewright.core.chat import Message
from tunewright.models.generate import Request, Sampling

State = Literal["loading", "ready", "failing", "failed", "stopped"]
"""failing: the last calls of the model raised; failed: it could not be loaded or its thread has ended."""


class EngineFault(Exception):
    """The engine failed while it worked on this request."""


class Interrupted(EngineFault):
    """The server stops and the answer was not finished in time."""


class NotReady(Exception):
    """The engine is loading, failed or stopped."""


class QueueFull(Exception):
    """No place to wait; `retry_after_s` is a guess at when there will be one."""

    def __init__(self, waiting: int, retry_after_s: int) -> None:
        super().__init__(f"{waiting} requests are waiting already")
        self.waiting, self.retry_after_s = waiting, retry_after_s


class ContextExceeded(Exception):
    """Prompt and answer do not fit into the model's context (all in tokens)."""

    def __init__(self, prompt: int, new: int, context: int) -> None:
        super().__init__(
            f"This model's maximum context length is {context} tokens. However, you requested {prompt + new} tokens "
            f"({prompt} in the messages, {new} in the completion). "
            "Please reduce the length of the messages or completion."
        )


class Answer:
    """One accepted request on its way back. Its methods belong to the event loop that submitted it."""

    def __init__(self, request: Request, wake: Callable[[], None]) -> None:
        self.request = request
        self._wake = wake
        self._events: asyncio.Queue[str | EngineFault | None] = asyncio.Queue()
        self._ended = False
        self.interrupted = threading.Event()
        """Set when the server, and not the client, cancelled it."""

    def deliver(self, event: str | EngineFault | None) -> None:
        """A piece of text, a fault, or None for the end; called on the event loop."""
        self._events.put_nowait(event)

    async def next(self) -> str | None:
        """The next piece of text, None at the end; raises EngineFault."""
        if self._ended:
            return None
        event = await self._events.get()
        self._ended = not isinstance(event, str)
        if isinstance(event, EngineFault):
            raise event
        return event

    async def pieces(self) -> AsyncIterator[str]:
        """The text as it comes; raises EngineFault."""
        while (piece := await self.next()) is not None:
            yield piece

    async def whole(self) -> str:
        """The whole text at the end; raises EngineFault."""
        while await self.next() is not None:
            continue
        return self.request.text

    def cancel(self) -> None:
        """Nobody waits for it any more: its row leaves the batch before the next step. Harmless after the end."""
        self.request.cancelled = True
        self._wake()

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the rendered conversation."""
        return len(self.request.prompt_ids)

    @property
    def completion_tokens(self) -> int:
        """Generated tokens so far, end tokens not counted."""
        return len(self.request.output_ids)


class Engine(Protocol):
    """What generates. `outstanding` counts accepted requests that have not ended."""

    name: str

    @property
    def state(self) -> State: ...

    @property
    def outstanding(self) -> int: ...

    async def submit(
        self, messages: Sequence[Message], sampling: Sampling, *, stream: bool, exact_length: bool
    ) -> Answer:
        """Accepts a request. `exact_length`: refuse, instead of lower, a max_new_tokens that does not fit.

        Raises NotReady, QueueFull, ContextExceeded, or TemplateRefusal.
        """
        ...

    def interrupt(self) -> None:
        """Cancels everything that is outstanding: the server stops."""
        ...
