"""Where questions get their answers: kept ones first, then a generation that runs already, then the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

from tunewright.core.chat import Message
from tunewright.models.generate import Sampling
from tunewright.serve.answers import Answer, Engine, Reader, TimeLimit
from tunewright.serve.cache.key import Identity, is_repeatable, question_key
from tunewright.serve.cache.layers import AnswerCache
from tunewright.serve.flights import Flights
from tunewright.serve.metrics import Metrics
from tunewright.serve.question import Question
from tunewright.serve.reply import Kept, Reading

Found = str
"""hit: kept; semantic: kept for a question that means the same; shared: with a generation of somebody else; miss:
generated and kept; skip: generated, not kept. `semantic` and `miss` may say more behind it: `;similarity=0.981`, and
`;refused=negation` for the guard that refused the most alike question."""


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
            self.metrics.looked_up(found.partition(";")[0])
        return reading, found

    async def _open(self, question: Question, asking: Asking) -> tuple[Reading, Found]:
        cache = self.cache
        repeatable = is_repeatable(question.sampling) or (cache is not None and cache.sampled)
        if cache is None or not repeatable or not asking.may_keep:
            return Reader(await self._submit(question), asking.limit, stream=asking.stream), "skip"
        key = self._key(question, asking.tenant, question.messages)
        if asking.may_read and (reply := await cache.get(key)) is not None:
            return Kept(reply), "hit"
        told, compared = "", self._compared(question, asking)
        if compared is not None and asking.may_read and not self._flights.is_open(key):
            reply, told = await cache.get_alike(compared.context, compared.text)
            if reply is not None:
                return Kept(reply), f"semantic{told}"
        reader, shared = await self._flights.join(
            key, lambda: self._submit_kept(question, key, cache, compared), asking.limit, stream=asking.stream
        )
        return reader, "shared" if shared else f"miss{told}"

    def _key(self, question: Question, tenant: str, messages: Sequence[Message]) -> str:
        """The key of the question with other messages."""
        return question_key(
            self.identity,
            tenant,
            messages,
            question.sampling,
            exact_length=question.exact_length,
            tools=question.tools,
        )

    def _compared(self, question: Question, asking: Asking) -> Compared | None:
        """What of the question is compared by its meaning; None where it must be the same to the letter."""
        if self.cache is None or self.cache.semantic is None or not is_plain(question):
            return None
        *before, last = question.messages
        same = [*before, last.model_copy(update={"content": ""})]
        return Compared(self._key(question, asking.tenant, same), last.content or "")

    async def _submit(self, question: Question) -> Answer:
        answer = await question.submit(self.engine)
        answer.at_end.append(self.metrics.generated)
        return answer

    async def _submit_kept(self, question: Question, key: str, cache: AnswerCache, compared: Compared | None) -> Answer:
        answer = await self._submit(question)
        answer.at_end.append(lambda ended: _keep(ended, key, cache, compared))
        return answer


@dataclass(frozen=True)
class Compared:
    """context: the hash of everything but `text`, the last user message."""

    context: str
    text: str


_OF_A_QUESTION = ("messages", "sampling", "exact_length")
_OF_SAMPLING = ("max_new_tokens", "temperature", "top_p", "seed", "stop", "ignore_end")


def is_plain(question: Question) -> bool:
    """Whether one text is asked for and nothing else: the last turn is a user's, the answer repeats, and there are no
    tools, no log probabilities, no further choices and no form that the answer must have."""
    last = question.messages[-1]
    if last.role != "user" or not last.content or not is_repeatable(question.sampling):
        return False
    return _is_bare(question, _OF_A_QUESTION) and _is_bare(question.sampling, _OF_SAMPLING)


def _is_bare(asked: Question | Sampling, known: Sequence[str]) -> bool:
    """Whether all other fields are as if they were not there: also those that a later version adds."""
    return all(getattr(asked, one.name) in (None, one.default) for one in fields(asked) if one.name not in known)


def _keep(answer: Answer, key: str, cache: AnswerCache, compared: Compared | None) -> None:
    """Keeps a whole answer; one that broke off or was cancelled is none."""
    if answer.fault is None and answer.request.finish in ("stop", "length"):
        cache.put(key, answer.reply)
        if compared is not None and cache.semantic is not None:
            cache.semantic.put(key, compared.context, compared.text)
