"""What an engine is to the HTTP layer: it takes a conversation and gives an Answer, or says why not.

An Answer can be read by several clients at once: identical questions share one generation (flights.py).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from tunewright.core.chat import Message
from tunewright.models.generate import Request, Sampling
from tunewright.models.template import Tools
from tunewright.serve.calls import CallReader, HeldText, Spoken
from tunewright.serve.faults import ContextExceeded, EngineFault, Expired
from tunewright.serve.logprobs import Log, TokenLogprob, cut
from tunewright.serve.reply import Reply

State = Literal["loading", "ready", "failing", "failed", "stopped"]
"""failing: the last calls of the model raised; failed: it could not be loaded or its thread has ended."""


class Answer:
    """One accepted request on its way back. Its methods belong to the event loop that submitted it."""

    def __init__(self, request: Request, wake: Callable[[], None], calls: CallReader | None = None) -> None:
        """calls: reads tool calls out of the text; None where no tool was offered."""
        self.request, self.calls = request, calls
        self._wake = wake
        self.pieces: list[str] = []
        """Text so far; empty until a streaming reader asks for it."""
        self.ended = False
        self.fault: EngineFault | None = None
        self.readers: set[Reader] = set()
        self.at_end: list[Callable[[Answer], None]] = []
        """Called once, on the event loop, when it has ended, before its readers learn of it."""
        self.interrupted = threading.Event()
        """Set when the server, and not the client, cancelled it."""
        self.log: Log | None = None
        """The log probabilities of its tokens; the engine sets it where they were asked for."""
        self.sink: Callable[[str], None] | None = None
        """How the engine's thread hands over text; the engine sets it."""

    def deliver(self, event: str | EngineFault | None) -> None:
        """A piece of text, a fault, or None for the end; called on the event loop."""
        if isinstance(event, str):
            self.pieces.append(event)
        else:
            self.fault, self.ended = event, True
            for call in self.at_end:
                call(self)
        for reader in self.readers:
            reader.changed.set()

    def want_pieces(self) -> None:
        """Text is handed over as it comes, from now on and with what there is already."""
        self.request.on_text = self.request.on_text or self.sink

    @property
    def reply(self) -> Reply:
        """What an answer that has ended by itself says and calls."""
        assert self.request.finish in ("stop", "length"), self.request.finish
        spoken = self.calls.read(self.request) if self.calls else Spoken(self.request.text, ())
        finish: Literal["stop", "length", "tool_calls"] = "tool_calls" if spoken.calls else self.request.finish
        counts = self.prompt_tokens, self.completion_tokens
        return Reply(spoken.content, spoken.calls, finish, *counts, self.logprobs_of(spoken.content))

    def logprobs_of(self, content: str | None) -> tuple[TokenLogprob, ...] | None:
        """The entries of an ended answer's content; None where they were not asked for."""
        return None if self.log is None else tuple(cut(self.log(), content or ""))

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


@dataclass(frozen=True)
class TimeLimit:
    """`seconds` from `started` (time.monotonic) on."""

    seconds: float
    started: float

    @property
    def left_s(self) -> float:
        """Seconds that are left, at least 0."""
        return max(0.0, self.started + self.seconds - time.monotonic())


class Reader:
    """One client's Reading of an Answer. The last reader that leaves before the end cancels it."""

    def __init__(self, answer: Answer, limit: TimeLimit, *, stream: bool) -> None:
        """limit: after it reading raises Expired."""
        self.answer, self._limit = answer, limit
        self.changed = asyncio.Event()
        self._place = self._sent = 0
        self._expired = False
        self._held = HeldText(answer.calls) if answer.calls and answer.calls.mark else None
        self._timer = asyncio.get_running_loop().call_later(limit.left_s, self._expire)
        answer.readers.add(self)
        if stream:
            answer.want_pieces()

    async def next(self) -> str | None:
        """The next piece of text, None at the end; raises EngineFault."""
        while True:
            await self._wait(lambda: self._place < len(self.answer.pieces))
            if self._place < len(self.answer.pieces):
                piece = self.answer.pieces[self._place]
                self._place += 1
                piece = self._held.more(piece, self.answer.request) if self._held else piece
            else:
                # what was held back, or came before this reader asked for pieces
                piece = (self.answer.reply.content or "")[self._sent :]
                if not piece:
                    return None
            self._sent += len(piece)
            if piece:
                return piece

    async def whole(self) -> Reply:
        """The answer at its end; raises EngineFault."""
        await self._wait(lambda: False)
        return self.answer.reply

    @property
    def tokens(self) -> int:
        """New tokens so far."""
        return self.answer.completion_tokens

    @property
    def logprobs(self) -> Sequence[TokenLogprob] | None:
        """Entries of all tokens so far; None where they were not asked for."""
        return None if self.answer.log is None else self.answer.log()

    def leave(self) -> None:
        """The client reads no more. Harmless after the end."""
        self._timer.cancel()
        self.answer.readers.discard(self)
        if not self.answer.readers and not self.answer.ended:
            self.answer.cancel()

    async def _wait(self, is_enough: Callable[[], bool]) -> None:
        """Until something is there, or the end; raises EngineFault."""
        while not self._expired and not is_enough():
            if self.answer.fault is not None:
                raise self.answer.fault
            if self.answer.ended:
                return
            self.changed.clear()
            await self.changed.wait()
        if self._expired:
            raise Expired(self._limit.seconds)

    def _expire(self) -> None:
        if not self.answer.ended:
            self._expired = True
            self.changed.set()
            self.leave()


@dataclass(frozen=True)
class Size:
    """Tokens of a request that fits: of its rendered prompt, and most new ones."""

    prompt: int
    new: int


class Engine(Protocol):
    """What generates. `outstanding` counts accepted requests that have not ended, `running` those in the batch,
    `tokens` every generated token so far."""

    name: str

    @property
    def state(self) -> State: ...

    @property
    def outstanding(self) -> int: ...

    @property
    def running(self) -> int: ...

    @property
    def tokens(self) -> int: ...

    async def submit(
        self,
        messages: Sequence[Message],
        samplings: Sequence[Sampling],
        *,
        exact_length: bool,
        tools: Tools | None = None,
    ) -> list[Answer]:
        """Accepts a conversation once for each sampling, all of them or none. `exact_length`: refuse, instead of lower,
        a max_new_tokens that does not fit; `tools`: what the model may call.

        Raises NotReady, QueueFull, ContextExceeded, ToolsNotShown, or TemplateRefusal.
        """
        ...

    async def size(
        self, messages: Sequence[Message], sampling: Sampling, *, exact_length: bool, tools: Tools | None = None
    ) -> Size:
        """How large a request is; nothing is generated. Raises as `submit` does, but not QueueFull."""
        ...

    def interrupt(self) -> None:
        """Cancels everything that is outstanding: the server stops."""
        ...


def fitted(prompt: int, sampling: Sampling, context: int, *, exact_length: bool) -> Sampling:
    """`sampling` with no more new tokens than `context` leaves behind a prompt of `prompt` tokens. Raises
    ContextExceeded when there is no room, or (exact_length) less than was asked for."""
    room = context - prompt
    if room < 1 or (exact_length and sampling.max_new_tokens > room):
        raise ContextExceeded(prompt, sampling.max_new_tokens if exact_length else 1, context)
    return replace(sampling, max_new_tokens=min(sampling.max_new_tokens, room))
