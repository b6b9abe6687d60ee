"""The engines of one server: the main one, others by name, and those that only finish what they have.

A model is exchanged without a dropped request: the new one loads beside the old one, takes over when it is ready, and
the old one answers what it has accepted. While both are there, both are in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from tunewright.core.chat import Message
from tunewright.models.generate import Sampling
from tunewright.models.template import Tools
from tunewright.serve.answers import Answer, Engine, Size, State

TICK_S = 0.02


class RunningEngine(Engine, Protocol):
    """An engine with its life: started once, stopped once."""

    @property
    def failure(self) -> BaseException | None:
        """Why the state is `failed`."""
        ...

    def start(self) -> None:
        """Begins to load."""
        ...

    def stop(self, timeout_s: float = 10.0) -> None:
        """Ends it; whatever is outstanding is interrupted."""
        ...


class Fleet:
    """An engine made of engines. By itself it answers with `main`; named ones are asked directly."""

    def __init__(self, main: RunningEngine) -> None:
        self.main, self.name = main, main.name
        self.named: dict[str, RunningEngine] = {}
        self._retiring: dict[RunningEngine, asyncio.Task[None]] = {}
        self._tokens_before = 0

    @property
    def state(self) -> State:
        """The main engine's: a server whose extra model failed still answers."""
        return self.main.state

    @property
    def failure(self) -> BaseException | None:
        """The main engine's."""
        return self.main.failure

    @property
    def engines(self) -> list[RunningEngine]:
        """Everything that may be at work."""
        return [self.main, *self.named.values(), *self._retiring]

    @property
    def outstanding(self) -> int:
        """Accepted requests that have not ended, of all."""
        return sum(engine.outstanding for engine in self.engines)

    @property
    def running(self) -> int:
        """Requests that generate now, of all."""
        return sum(engine.running for engine in self.engines)

    @property
    def tokens(self) -> int:
        """Tokens generated so far, by all that were ever here."""
        return self._tokens_before + sum(engine.tokens for engine in self.engines)

    async def submit(
        self,
        messages: Sequence[Message],
        samplings: Sequence[Sampling],
        *,
        exact_length: bool,
        tools: Tools | None = None,
    ) -> list[Answer]:
        """Asks the main engine."""
        return await self.main.submit(messages, samplings, exact_length=exact_length, tools=tools)

    async def size(
        self, messages: Sequence[Message], sampling: Sampling, *, exact_length: bool, tools: Tools | None = None
    ) -> Size:
        """By the main engine."""
        return await self.main.size(messages, sampling, exact_length=exact_length, tools=tools)

    def start(self) -> None:
        """Starts the main engine."""
        self.main.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Ends all."""
        for engine in self.engines:
            engine.stop(timeout_s)

    def interrupt(self) -> None:
        """Cancels everything that is outstanding."""
        for engine in self.engines:
            engine.interrupt()

    async def exchange(self, engine: RunningEngine) -> None:
        """Makes `engine` the main one once it is ready. Raises its failure, and then nothing has changed."""
        await loaded(engine)
        before, self.main = self.main, engine
        self._retire(before)

    async def add(self, name: str, engine: RunningEngine) -> None:
        """Adds `engine` under `name` once it is ready; one of that name retires. Raises its failure."""
        await loaded(engine)
        before = self.named.get(name)
        self.named[name] = engine
        if before is not None:
            self._retire(before)

    def remove(self, name: str) -> None:
        """The engine of this name finishes what it has and ends."""
        self._retire(self.named.pop(name))

    def _retire(self, engine: RunningEngine) -> None:
        self._retiring[engine] = asyncio.get_running_loop().create_task(self._end(engine))

    async def _end(self, engine: RunningEngine) -> None:
        while engine.outstanding:
            await asyncio.sleep(TICK_S)
        await asyncio.to_thread(engine.stop)
        self._tokens_before += engine.tokens
        del self._retiring[engine]


async def loaded(engine: RunningEngine) -> None:
    """Starts `engine` and waits until it is ready; raises its failure."""
    engine.start()
    while engine.state == "loading":
        await asyncio.sleep(TICK_S)
    if engine.failure is not None:
        raise engine.failure
