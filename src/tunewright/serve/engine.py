"""The transformers engine: one thread around one RunningBatch. Requests join between steps and leave when finished.

The event loop only queues requests and gets pieces of text; everything that touches the model happens on the thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tunewright.core import events
from tunewright.core.chat import Message
from tunewright.core.errors import TunewrightError
from tunewright.models.generate import Request, RunningBatch, Sampling
from tunewright.models.template import Tools
from tunewright.models.tokens import ChatTokenizer
from tunewright.serve.answers import Answer, Size, State, fitted
from tunewright.serve.calls import CallReader, shown_prompt
from tunewright.serve.faults import EngineFault, Interrupted, NotReady, QueueFull, place_of
from tunewright.serve.prefills import WHILE_IDLE, WHILE_ROWS_RUN, Group, Prefills

FAULTS_UNTIL_FAILING = 3
MAX_RETRY_S = 60


@dataclass(frozen=True)
class Loaded:
    """A model ready to generate; `context`: most tokens of prompt and answer together."""

    model: Any
    tokenizer: ChatTokenizer
    context: int


class TransformersEngine:
    """Generates up to `batch_size` answers together; up to `queue` more requests wait in order of arrival."""

    name = "transformers"

    def __init__(
        self, load: Callable[[], Loaded], *, batch_size: int, queue: int, say: Callable[[str], None] = events.say
    ) -> None:
        """say: gets a line about each fault, without content."""
        self._load, self._batch_size, self._queue, self._say = load, batch_size, queue, say
        self._lock = threading.Condition()
        self._waiting: deque[Answer] = deque()
        self._running: list[Answer] = []
        self._outbox: list[tuple[Answer, str | EngineFault | None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._state: State = "loading"
        self._faults = 0
        self._mean_s = 1.0
        self._outstanding = 0
        self._tokens = 0
        self.failure: BaseException | None = None
        """Why the state is `failed`."""
        self.loaded: Loaded | None = None
        self._batch: RunningBatch | None = None
        self._prefills = Prefills()
        self._thread = threading.Thread(target=self._work, name="transformers-engine", daemon=True)

    def start(self) -> None:
        """Begins to load; `state` tells when that is done."""
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Ends the thread; whatever is outstanding is interrupted."""
        with self._lock:
            self._state = "failed" if self._state == "failed" else "stopped"
            self._lock.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    @property
    def state(self) -> State:
        """Where the engine is."""
        return self._state

    @property
    def outstanding(self) -> int:
        """Accepted requests that have not ended."""
        return self._outstanding

    @property
    def running(self) -> int:
        """Rows in the batch."""
        return len(self._batch.rows) if self._batch else 0

    @property
    def tokens(self) -> int:
        """Tokens generated so far, end tokens included."""
        return self._tokens

    async def submit(
        self, messages: Sequence[Message], sampling: Sampling, *, exact_length: bool, tools: Tools | None = None
    ) -> Answer:
        """Accepts a request (see `Engine`). All requests come from one event loop."""
        loaded = self._check_open()
        self._check_room()
        prompt_ids = await asyncio.to_thread(shown_prompt, loaded.tokenizer, messages, tools)
        sampling = fitted(len(prompt_ids), sampling, loaded.context, exact_length=exact_length)
        self._loop = asyncio.get_running_loop()
        request = Request(prompt_ids, sampling)
        names = [tool["function"]["name"] for tool in tools or ()]
        answer = Answer(request, self._notify, CallReader(loaded.tokenizer, names) if names else None)
        answer.sink = lambda piece: self._outbox.append((answer, piece))
        with self._lock:
            self._check_open()
            self._check_room()
            self._outstanding += 1
            self._waiting.append(answer)
            self._lock.notify()
        return answer

    async def size(
        self, messages: Sequence[Message], sampling: Sampling, *, exact_length: bool, tools: Tools | None = None
    ) -> Size:
        """How large a request is (see `Engine`)."""
        loaded = self._check_open()
        prompt = len(await asyncio.to_thread(shown_prompt, loaded.tokenizer, messages, tools))
        return Size(prompt, fitted(prompt, sampling, loaded.context, exact_length=exact_length).max_new_tokens)

    def interrupt(self) -> None:
        """Cancels everything that is outstanding: the server stops."""
        with self._lock:
            for answer in [*self._waiting, *self._running]:
                answer.interrupted.set()
                answer.request.cancelled = True
            self._lock.notify()

    def _check_open(self) -> Loaded:
        if self.loaded is None or self._state not in ("ready", "failing"):
            raise NotReady(f"the model is {self._state}")
        return self.loaded

    def _check_room(self) -> None:
        if self._outstanding >= self._batch_size + self._queue:
            turns = self._outstanding / self._batch_size
            raise QueueFull(self._outstanding, min(MAX_RETRY_S, max(1, round(self._mean_s * turns / 2))))

    def _notify(self) -> None:
        with self._lock:
            self._lock.notify()

    def _work(self) -> None:
        """The thread: load, then turns until stopped."""
        try:
            self.loaded = self._load()
            self._batch = self._new_batch()
            with self._lock:
                if self._state == "loading":
                    self._state = "ready"
            while self._wait_for_work():
                self._turn()
            self._end_all(Interrupted("the server is shutting down"))
        except BaseException as error:
            self.failure, self._state = error, "failed"
            if not isinstance(error, TunewrightError):
                self._say(f"serve: the engine ended: {place_of(error)}")
            self._end_all(EngineFault("the engine has ended"))

    def _wait_for_work(self) -> bool:
        """Waits until there is something to do; False when the engine was stopped."""
        with self._lock:
            while not (self._waiting or self._running) and self._state != "stopped":
                self._lock.wait()
            return self._state != "stopped"

    def _turn(self) -> None:
        """A piece of the prompts that join, then one token for every row."""
        joining = self._next_joining()
        if joining:
            self._guarded(joining, lambda: self._prefills.begin(self._live, joining))
        for gone in self._prefills.cancelled():
            for answer in gone.answers:
                answer.request.finish = "cancelled"
        for group in self._prefills.turn(self._budget()):
            self._guarded(group.answers, partial(self._advance, group), group)
        self._finish_ended()
        self._send()
        if self._live.rows:
            requests = set(map(id, self._live.rows))
            self._tokens += len(requests)
            rows = [answer for answer in self._running if id(answer.request) in requests]
            if not self._guarded(rows, self._step):
                self._batch = self._new_batch()  # whatever the fault left half done goes with its rows
            self._finish_ended()
        self._send()

    @property
    def _live(self) -> RunningBatch:
        assert self._batch is not None
        return self._batch

    def _new_batch(self) -> RunningBatch:
        assert self.loaded is not None
        return RunningBatch(self.loaded.model, self.loaded.tokenizer)

    def _budget(self) -> int:
        """Padded prompt tokens that may be computed now."""
        return WHILE_ROWS_RUN if self._live.rows else WHILE_IDLE

    def _next_joining(self) -> list[Answer]:
        """The waiting requests that join now, first come first served, within the budget of one turn."""
        budget = self._budget()
        joining: list[Answer] = []
        longest = 0
        with self._lock:
            while self._waiting and len(self._running) + len(joining) < self._batch_size:
                if self._waiting[0].request.cancelled:
                    self._end(self._waiting.popleft(), None)
                    continue
                longest = max(longest, self._waiting[0].prompt_tokens)
                if joining and longest * (len(joining) + 1) > budget:
                    break
                joining.append(self._waiting.popleft())
            self._running += joining
        return joining

    def _advance(self, group: Group) -> None:
        has_joined = self._live.advance(group.joining, self._budget())
        self._worked()
        if has_joined:
            self._tokens += len(group.answers)
            self._prefills.remove(group)

    def _step(self) -> None:
        self._live.step()
        self._worked()

    def _worked(self) -> None:
        """The model gave an answer: what went wrong before is over."""
        self._faults = 0
        self._state = "ready" if self._state == "failing" else self._state

    def _guarded(self, answers: list[Answer], call: Callable[[], object], group: Group | None = None) -> bool:
        """Runs the model for `answers`; whether it worked. A fault ends these answers only."""
        try:
            call()
        except Exception as error:
            self._say(f"serve: the model failed on {len(answers)} requests: {place_of(error)}")
            self._faults += 1
            if self._faults >= FAULTS_UNTIL_FAILING and self._state == "ready":
                self._state = "failing"
            if group is not None:
                self._prefills.remove(group)
            for answer in answers:
                answer.request.cancelled = True
                self._end(answer, EngineFault("The model failed on this request."))
            with self._lock:
                self._running = [answer for answer in self._running if answer not in answers]
            return False
        return True

    def _finish_ended(self) -> None:
        for answer in [answer for answer in self._running if answer.request.finish is not None]:
            self._mean_s += 0.1 * (answer.request.seconds - self._mean_s)
            with self._lock:
                self._running.remove(answer)
            self._end(answer, None)

    def _end(self, answer: Answer, fault: EngineFault | None) -> None:
        if fault is None and answer.interrupted.is_set() and answer.request.finish in (None, "cancelled"):
            fault = Interrupted("The server is shutting down; the answer was not finished.")
        self._outbox.append((answer, fault))
        with self._lock:
            self._outstanding -= 1

    def _end_all(self, fault: EngineFault) -> None:
        with self._lock:
            ended = [*self._running, *self._waiting]
            self._running, self._waiting, self._prefills = [], deque(), Prefills()
        for answer in ended:
            answer.request.cancelled = True
            self._end(answer, fault)
        self._send()

    def _send(self) -> None:
        """Hands what this turn brought to the event loop, in one call and in order."""
        outbox, self._outbox = self._outbox, []
        if not outbox or self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(_deliver, outbox)
        except RuntimeError:  # the loop is closed: nobody is left to read
            for answer, _ in outbox:
                answer.request.cancelled = True


def _deliver(outbox: list[tuple[Answer, str | EngineFault | None]]) -> None:
    for answer, event in outbox:
        answer.deliver(event)
