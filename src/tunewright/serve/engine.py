"""The transformers engine: one thread around one RunningBatch. Requests join between steps and leave when finished.

The event loop only queues requests and gets pieces of text; everything that touches the model happens on the thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from tunewright.core import events
from tunewright.core.chat import Message
from tunewright.core.errors import TunewrightError
from tunewright.models.generate import RunningBatch, Sampling
from tunewright.models.template import Tools
from tunewright.serve.answers import Answer, Size, State
from tunewright.serve.faults import EngineFault, Interrupted, NotReady, QueueFull, place_of
from tunewright.serve.outbox import Outbox
from tunewright.serve.prefills import WHILE_IDLE, WHILE_ROWS_RUN, Group, Prefills
from tunewright.serve.prepared import Loaded, Prepared, Preparer

FAULTS_UNTIL_FAILING = 3


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
        self._outbox = Outbox()
        self._state: State = "loading"
        self._faults = 0
        self._mean_s = 1.0
        self._outstanding = 0
        self._tokens = 0
        self.failure: BaseException | None = None
        """Why the state is `failed`."""
        self.loaded: Loaded | None = None
        self._preparer: Preparer | None = None
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
        self,
        messages: Sequence[Message],
        samplings: Sequence[Sampling],
        *,
        exact_length: bool,
        tools: Tools | None = None,
    ) -> list[Answer]:
        """Accepts a conversation (see `Engine`); its prompt is computed once. All requests come from one event loop."""
        preparer = self._check_open()
        self._check_room(len(samplings))
        prepared = await asyncio.to_thread(
            preparer.prepare, messages, samplings, exact_length=exact_length, tools=tools
        )
        self._outbox.loop = asyncio.get_running_loop()
        answers = [self._answer(one) for one in prepared]
        with self._lock:
            self._check_open()
            self._check_room(len(samplings))
            self._outstanding += len(answers)
            self._waiting += answers
            self._lock.notify()
        return answers

    def _answer(self, prepared: Prepared) -> Answer:
        answer = Answer(prepared.request, self._notify, prepared.calls)
        answer.log = prepared.log
        answer.sink = partial(self._outbox.put, answer)
        return answer

    async def size(
        self, messages: Sequence[Message], sampling: Sampling, *, exact_length: bool, tools: Tools | None = None
    ) -> Size:
        """How large a request is (see `Engine`)."""
        preparer = self._check_open()
        return await asyncio.to_thread(preparer.size, messages, sampling, exact_length=exact_length, tools=tools)

    def interrupt(self) -> None:
        """Cancels everything that is outstanding: the server stops."""
        with self._lock:
            for answer in [*self._waiting, *self._running]:
                answer.interrupted.set()
                answer.request.cancelled = True
            self._lock.notify()

    def _check_open(self) -> Preparer:
        if self._preparer is None or self._state not in ("ready", "failing"):
            raise NotReady(f"the model is {self._state}")
        return self._preparer

    def _check_room(self, rows: int) -> None:
        if self._outstanding + rows > self._batch_size + self._queue:
            raise QueueFull(self._outstanding, turns=self._outstanding / self._batch_size, turn_s=self._mean_s)

    def _notify(self) -> None:
        with self._lock:
            self._lock.notify()

    def _work(self) -> None:
        """The thread: load, then turns until stopped."""
        try:
            self.loaded = self._load()
            self._preparer = Preparer(self.loaded)
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
        self._outbox.send()
        if self._live.rows:
            requests = set(map(id, self._live.rows))
            self._tokens += len(requests)
            rows = [answer for answer in self._running if id(answer.request) in requests]
            if not self._guarded(rows, self._step):
                self._batch = self._new_batch()  # whatever the fault left half done goes with its rows
            self._finish_ended()
        self._outbox.send()

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
        prompts: set[int] = set()  # choices of one request share theirs, which is computed once
        longest = 0
        with self._lock:
            while self._waiting and len(self._running) + len(joining) < self._batch_size:
                if self._waiting[0].request.cancelled:
                    self._end(self._waiting.popleft(), None)
                    continue
                longest = max(longest, self._waiting[0].prompt_tokens)
                prompts.add(id(self._waiting[0].request.prompt_ids))
                if joining and longest * len(prompts) > budget:
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
            fault = EngineFault("The model could not keep to the schema.") if answer.request.fault else None
            self._end(answer, fault)

    def _end(self, answer: Answer, fault: EngineFault | None) -> None:
        if fault is None and answer.interrupted.is_set() and answer.request.finish in (None, "cancelled"):
            fault = Interrupted("The server is shutting down; the answer was not finished.")
        self._outbox.put(answer, fault)
        with self._lock:
            self._outstanding -= 1

    def _end_all(self, fault: EngineFault) -> None:
        with self._lock:
            ended = [*self._running, *self._waiting]
            self._running, self._waiting, self._prefills = [], deque(), Prefills()
        for answer in ended:
            answer.request.cancelled = True
            self._end(answer, fault)
        self._outbox.send()
