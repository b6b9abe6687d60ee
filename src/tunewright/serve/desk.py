"""Where questions get their answers: kept ones first, then a generation that runs already, then the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tunewright.serve.answers import Answer, Engine, Reader, TimeLimit
from tunewright.serve.cache.key import Identity, is_repeatable, question_key
from tunewright.serve.cache.layers import AnswerCache
from tunewright.serve.flights import Flights
from tunewright.serve.metrics import Metrics
from tunewright.serve.question import Question
from tunewright.serve.reply import Kept, Reading

Found = Literal["hit", "shared", "miss", "skip"]
"""hit: kept; shared: with a generation of somebody else; miss: generated and kept; skip: generated, not kept."""


@dataclass(frozen=True)
class Asking:
    """How one client asks. tenant: whose key it gave; `may_read`, `may_keep`: what it allows of the cache."""

    limit: TimeLimit
    stream: bool = False
    tenant: str = ""
    may_read: bool = True
    may_keep: bool = True


@dataclass
class Desk:
    """One engine with its cache. All methods belong to one event loop."""

    engine: Engine
    identity: Identity
    metrics: Metrics
    cache: AnswerCache | None = None
    _flights: Flights = field(default_factory=Flights)

    async def open(self, question: Question, asking: Asking) -> tuple[Reading, Found]:
        """A way through the answer, and where it comes from; raises ApiError."""
        reading, found = await self._open(question, asking)
        if self.cache is not None:
            self.metrics.looked_up(found)
        return reading, found

    async def _open(self, question: Question, asking: Asking) -> tuple[Reading, Found]:
        cache = self.cache
        repeatable = is_repeatable(question.sampling) or (cache is not None and cache.sampled)
        if cache is None or not repeatable or not asking.may_keep:
            return Reader(await self._submit(question), asking.limit, stream=asking.stream), "skip"
        key = question_key(
            self.identity,
            asking.tenant,
            question.messages,
            question.sampling,
            exact_length=question.exact_length,
            tools=question.tools,
        )
        if asking.may_read and (reply := await cache.get(key)) is not None:
            return Kept(reply), "hit"
        reader, shared = await self._flights.join(
            key, lambda: self._submit_kept(question, key, cache), asking.limit, stream=asking.stream
        )
        return reader, "shared" if shared else "miss"

    async def _submit(self, question: Question) -> Answer:
        answer = await question.submit(self.engine)
        answer.at_end.append(self.metrics.generated)
        return answer

    async def _submit_kept(self, question: Question, key: str, cache: AnswerCache) -> Answer:
        answer = await self._submit(question)
        answer.at_end.append(lambda ended: _keep(ended, key, cache))
        return answer


def _keep(answer: Answer, key: str, cache: AnswerCache) -> None:
    """Keeps a whole answer; one that broke off or was cancelled is none."""
    if answer.fault is None and answer.request.finish in ("stop", "length"):
        cache.put(key, answer.reply)
