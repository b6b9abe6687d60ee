"""An engine that is another server: it takes its place behind our HTTP layer like the one in process.

Everything but starting and watching the other server happens on the event loop, so nothing is locked.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tunewright.core import events
from tunewright.core.chat import Message
from tunewright.core.errors import ResourceError, TunewrightError
from tunewright.models.request import Request, Sampling
from tunewright.models.template import Tools
from tunewright.serve.answers import Answer, Size, State
from tunewright.serve.calls import CallReader
from tunewright.serve.engine import FAULTS_UNTIL_FAILING
from tunewright.serve.engines.speech import Piece, check_form, take
from tunewright.serve.engines.told import ToldAnswer
from tunewright.serve.faults import EngineFault, Interrupted, NotReady, QueueFull, Refused, place_of
from tunewright.serve.prepared import Loaded

LOOK_S = 0.1
"""Between two looks at whether the other server lives."""
FORGIVEN_S = 3600.0
"""One that ended is started again once; after so long of work it may end once more."""


@dataclass(frozen=True)
class Place:
    """What an engine gets from the project file. say: for lines without content."""

    batch_size: int
    queue: int
    say: Callable[[str], None] = events.say


@dataclass(frozen=True)
class Asked:
    """One request in the other server's words. request: its prompt and sampling; told: the other server reads tool
    calls and counts the prompt."""

    request: Request
    body: dict[str, Any]
    calls: CallReader | None = None
    told: bool = False


class Upstream(Protocol):
    """Another server. `start`, `ended` and `stop` are called on a thread of their own, the rest on the event loop."""

    name: str
    loaded: Loaded | None
    """Tokenizer and context, where they are known here; `model` is None."""

    def start(self, stopping: threading.Event) -> None:
        """Returns when it takes requests, or early when `stopping` is set; raises TunewrightError. Called again when it
        has ended."""
        ...

    def ended(self) -> str | None:
        """Why it runs no more, in a few words; None while it runs."""
        ...

    def stop(self) -> None:
        """Ends it, or lets go of it. Harmless when it does not run."""
        ...

    def ask(self, messages: Sequence[Message], sampling: Sampling, *, exact_length: bool, tools: Tools | None) -> Asked:
        """The request that `pieces` will send; runs on a thread. Raises as `Engine.submit`."""
        ...

    def size(self, messages: Sequence[Message], sampling: Sampling, *, exact_length: bool, tools: Tools | None) -> Size:
        """How large a request is; runs on a thread. Raises as `Engine.size`."""
        ...

    def pieces(self, asked: Asked) -> AsyncIterator[Piece]:
        """The answer. Leaving the iteration cancels it there. Raises EngineFault."""
        ...


class UpstreamEngine:
    """Up to `batch_size` requests at a time are with the other server; up to `queue` more wait here, in order."""

    def __init__(self, upstream: Upstream, place: Place) -> None:
        self.upstream, self.name = upstream, upstream.name
        self._batch_size, self._queue, self._say = place.batch_size, place.queue, place.say
        self._slots = asyncio.Semaphore(place.batch_size)
        self._tasks: dict[asyncio.Task[None], Answer] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._state: State = "loading"
        self._is_open = False
        self._running = self._tokens = self._faults = 0
        self._mean_s = 1.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"{self.name}-engine", daemon=True)
        self.failure: BaseException | None = None

    def start(self) -> None:
        """Begins to start the other server; `state` tells when it is ready."""
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Ends the other server; whatever is outstanding is interrupted."""
        self._is_open = False
        self._state = "failed" if self._state == "failed" else "stopped"
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.interrupt)
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    @property
    def state(self) -> State:
        """Where the engine is; `failing` also while an ended server is started again."""
        return self._state

    @property
    def loaded(self) -> Loaded | None:
        """Tokenizer and context, where they are known here."""
        return self.upstream.loaded

    @property
    def outstanding(self) -> int:
        """Accepted requests that have not ended."""
        return len(self._tasks)

    @property
    def running(self) -> int:
        """Requests that are with the other server."""
        return self._running

    @property
    def tokens(self) -> int:
        """Tokens generated so far, end tokens not counted."""
        return self._tokens

    async def submit(
        self,
        messages: Sequence[Message],
        samplings: Sequence[Sampling],
        *,
        exact_length: bool,
        tools: Tools | None = None,
    ) -> list[Answer]:
        """Accepts a conversation (see `Engine`); each sampling is a request there."""
        self._check_open()
        self._check_room(len(samplings))

        def ask() -> list[Asked]:
            return [self.upstream.ask(messages, one, exact_length=exact_length, tools=tools) for one in samplings]

        asked = await asyncio.to_thread(ask)
        self._check_open()
        self._check_room(len(samplings))
        self._loop = asyncio.get_running_loop()
        return [self._started(self._loop, one) for one in asked]

    def _started(self, loop: asyncio.AbstractEventLoop, asked: Asked) -> Answer:
        tasks: list[asyncio.Task[None]] = []

        def cancel() -> None:
            tasks[0].cancel()

        answer = (ToldAnswer if asked.told else Answer)(asked.request, cancel, asked.calls)
        answer.sink = answer.deliver
        if isinstance(answer, ToldAnswer) and asked.request.sampling.logprobs is not None:
            answer.log = answer.told_logprobs
        task = loop.create_task(self._answer(answer, asked))
        tasks.append(task)
        self._tasks[task] = answer
        task.add_done_callback(self._ended)
        return answer

    async def size(
        self, messages: Sequence[Message], sampling: Sampling, *, exact_length: bool, tools: Tools | None = None
    ) -> Size:
        """How large a request is (see `Engine`)."""
        self._check_open()
        return await asyncio.to_thread(self.upstream.size, messages, sampling, exact_length=exact_length, tools=tools)

    def interrupt(self) -> None:
        """Cancels everything that is outstanding: the server stops."""
        for answer in list(self._tasks.values()):
            answer.interrupted.set()
            answer.cancel()

    def _check_open(self) -> None:
        if not self._is_open:
            raise NotReady(
                "the model is being started again" if self._state == "failing" else f"the model is {self._state}"
            )

    def _check_room(self, rows: int) -> None:
        if len(self._tasks) + rows > self._batch_size + self._queue:
            raise QueueFull(len(self._tasks), turns=len(self._tasks) / self._batch_size, turn_s=self._mean_s)

    async def _answer(self, answer: Answer, asked: Asked) -> None:
        """One request from the queue to its end; the answer always gets an end."""
        request, fault = asked.request, None
        try:
            async with self._slots:
                self._running += 1
                try:
                    await self._speak(answer, asked)
                finally:
                    self._running -= 1
            self._faults = 0
            self._mean_s += 0.1 * (request.seconds - self._mean_s)
        except asyncio.CancelledError:
            request.cancelled, request.finish = True, "cancelled"
        except EngineFault as error:
            fault = self._noted(error)
        except Exception as error:
            self._say(f"serve: {self.name} failed on a request: {place_of(error)}")
            fault = self._noted(EngineFault("The model failed on this request."))
        if answer.interrupted.is_set() and request.finish in (None, "cancelled"):
            fault = Interrupted("The server is shutting down; the answer was not finished.")
        answer.deliver(fault)

    async def _speak(self, answer: Answer, asked: Asked) -> None:
        pieces = self.upstream.pieces(asked)
        try:
            async for piece in pieces:
                if isinstance(answer, ToldAnswer):
                    answer.hear(piece)
                self._tokens += take(asked.request, piece)
                if asked.request.finish is not None:
                    check_form(asked.request)
                    return
        finally:
            await pieces.aclose()  # type: ignore[attr-defined]
        raise EngineFault("The upstream server broke off its answer.")

    def _noted(self, fault: EngineFault) -> EngineFault:
        """Counts a fault; what a client did wrong is none."""
        if not isinstance(fault, Refused):
            self._faults += 1
            if self._faults >= FAULTS_UNTIL_FAILING and self._state == "ready":
                self._state = "failing"
        return fault

    def _ended(self, task: asyncio.Task[None]) -> None:
        answer = self._tasks.pop(task)
        if not answer.ended:  # cancelled before its first step
            answer.request.finish = "cancelled"
            answer.deliver(None)
        if self._is_open and self._state == "failing" and not self._faults:
            self._state = "ready"

    def _watch(self) -> None:
        """The thread: starts the other server, starts it again once when it has ended, ends it."""
        try:
            self._open()
            since = time.monotonic()
            restarts = 0
            while not self._stopping.wait(LOOK_S):
                if (why := self.upstream.ended()) is None:
                    continue
                restarts = 1 if time.monotonic() - since > FORGIVEN_S else restarts + 1
                self._is_open, self._state = False, "failing"
                if restarts > 1:
                    raise ResourceError(
                        f"{self.name} ended twice: {why}",
                        where="serve.engine",
                        fix="look at its memory, then start again",
                    )
                self._say(f"serve: {self.name} ended ({why}); it is started again")
                self.upstream.stop()
                self._open()
                since = time.monotonic()
        except BaseException as error:
            self._is_open, self.failure, self._state = False, error, "failed"
            if not isinstance(error, TunewrightError):
                self._say(f"serve: {self.name} was not started: {place_of(error)}")
        finally:
            self.upstream.stop()

    def _open(self) -> None:
        self.upstream.start(self._stopping)
        if not self._stopping.is_set():
            self._faults = 0
            self._is_open, self._state = True, "ready"
