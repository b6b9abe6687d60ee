"""The choices of one request: `n` answers that are read side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tunewright.serve.answers import Reader
from tunewright.serve.desk import Asking, Desk, Found
from tunewright.serve.question import Question
from tunewright.serve.reply import Reading, Reply


class Choices:
    """Readings of one client. Whoever stops reading calls `leave`."""

    def __init__(self, readings: Sequence[Reading]) -> None:
        self.readings = list(readings)
        self._left = list(range(len(readings)))
        self._tasks: dict[int, asyncio.Task[str | None]] = {}

    async def next(self) -> tuple[int, str | None] | None:
        """(which choice, its next piece of text, None at its end), whichever comes first; None when all have ended.
        Raises EngineFault: a fault of one choice is the request's."""
        if not self._left:
            return None
        if len(self._left) == 1 and not self._tasks:
            index = self._left[0]
            piece = await self.readings[index].next()
        else:
            index, piece = await self._first()
        if piece is None:
            self._left.remove(index)
        return index, piece

    async def _first(self) -> tuple[int, str | None]:
        for index in self._left:
            if index not in self._tasks:
                self._tasks[index] = asyncio.ensure_future(self.readings[index].next())
        await asyncio.wait(self._tasks.values(), return_when=asyncio.FIRST_COMPLETED)
        index = next(index for index in self._left if self._tasks[index].done())
        return index, self._tasks.pop(index).result()

    async def whole(self) -> list[Reply]:
        """All answers at their end; raises EngineFault."""
        return [await reading.whole() for reading in self.readings]

    @property
    def tokens(self) -> int:
        """New tokens so far, of all."""
        return sum(reading.tokens for reading in self.readings)

    def leave(self) -> None:
        """The client reads no more. Harmless after the end."""
        for task in self._tasks.values():
            task.cancel()
        for reading in self.readings:
            reading.leave()


async def opened(desk: Desk, question: Question, asking: Asking) -> tuple[Choices, Found]:
    """A way through all choices, and where they come from; raises ApiError. Several choices are never kept and never
    taken from kept answers: drawn without a seed they must differ."""
    if question.choices == 1:
        reading, found = await desk.open(question, asking)
        return Choices([reading]), found
    answers = await question.submit_all(desk.engine)
    for answer in answers:
        answer.at_end.append(desk.metrics.generated)
    if desk.cache is not None:
        desk.metrics.looked_up("skip")
    return Choices([Reader(answer, asking.limit, stream=asking.stream) for answer in answers]), "skip"
