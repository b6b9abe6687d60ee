"""Single flight: identical questions that are asked at the same time cost one generation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tunewright.serve.answers import Answer, Reader, TimeLimit


@dataclass(eq=False)
class _Flight:
    """One generation; `waiting`: clients that have no reader of it yet."""

    task: asyncio.Task[Answer]
    waiting: int = field(default=0)

    @property
    def answer(self) -> Answer | None:
        """The accepted answer; None while it is being submitted or when it was refused."""
        is_there = self.task.done() and not self.task.cancelled() and self.task.exception() is None
        return self.task.result() if is_there else None

    @property
    def is_open(self) -> bool:
        """Whether another client may still join: it is being submitted, or runs for somebody."""
        answer = self.answer
        return not self.task.done() if answer is None else not (answer.ended or answer.request.cancelled)

    def settle(self) -> None:
        """Cancels the generation when every client has gone before it could read."""
        if self.waiting == 0 and (answer := self.answer) and not answer.readers:
            answer.cancel()


class Flights:
    """The generations that run now, by the key of their question."""

    def __init__(self) -> None:
        self._flights: dict[str, _Flight] = {}

    async def join(
        self, key: str, submit: Callable[[], Awaitable[Answer]], limit: TimeLimit, *, stream: bool
    ) -> tuple[Reader, bool]:
        """(a reader, whether the generation was somebody else's). Raises what `submit` raises, to all who joined."""
        flight = self._flights.get(key)
        is_shared = flight is not None and flight.is_open
        if flight is None or not is_shared:
            flight = _Flight(asyncio.ensure_future(_started(submit)))
            self._flights[key] = flight
            flight.task.add_done_callback(lambda _, flight=flight: self._landed(key, flight))  # type: ignore[misc]
        flight.waiting += 1
        try:
            answer = await asyncio.shield(flight.task)
            reader = Reader(answer, limit, stream=stream)
        finally:
            flight.waiting -= 1
            flight.settle()
        return reader, is_shared

    def is_open(self, key: str) -> bool:
        """Whether `join` would share a generation of somebody else."""
        flight = self._flights.get(key)
        return flight is not None and flight.is_open

    def _landed(self, key: str, flight: _Flight) -> None:
        answer = flight.answer  # reads a refusal too, so that asyncio does not report it as forgotten
        flight.settle()
        if answer is None or answer.ended:
            self._forget(key, flight)
        else:
            answer.at_end.append(lambda _: self._forget(key, flight))

    def _forget(self, key: str, flight: _Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]


async def _started(submit: Callable[[], Awaitable[Answer]]) -> Answer:
    return await submit()
