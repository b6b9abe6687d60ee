"""Server-sent events as OpenAI frames them: role, text, calls and finish reason of each choice, usage if asked for,
`[DONE]`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from tunewright.serve import wire
from tunewright.serve.choices import Choices
from tunewright.serve.faults import EngineFault, Expired, Interrupted, Refused
from tunewright.serve.logprobs import ChoiceLogprobs, Follower, TokenLogprob
from tunewright.serve.reply import Reading, Reply, usage
from tunewright.serve.tools import CallDelta

DONE = "data: [DONE]\n\n"
_PLACE = "\0"
"""Where the text goes: in no other part of a chunk."""


class EventStream(StreamingResponse):
    """A stream that calls `at_end` however it ends: finished, failed, or left by its client."""

    def __init__(
        self, content: AsyncIterator[str], at_end: Callable[[], None], *, headers: Mapping[str, str] | None = None
    ) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no", **(headers or {})}
        super().__init__(content, media_type="text/event-stream", headers=headers)
        self._at_end = at_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._at_end()


async def events(
    choices: Choices, first: tuple[int, str | None] | None, *, model: str, include_usage: bool
) -> AsyncIterator[str]:
    """The events of an answer whose first piece is known already (see `Choices.next`)."""
    made = _Chunks(model, include_usage)
    voices = [_Voice(made, index, reading) for index, reading in enumerate(choices.readings)]
    for voice in voices:
        yield voice.opening()
    try:
        found = first
        while found is not None:
            index, piece = found
            if piece is None:
                for event in voices[index].end(await choices.readings[index].whole()):
                    yield event
            else:
                yield voices[index].says(piece)
            found = await choices.next()
        replies = await choices.whole()
    except EngineFault as fault:
        yield _event(as_error(fault).to_json())
        return
    if include_usage:
        yield made.usage(usage(replies))
    yield DONE


def as_error(fault: EngineFault) -> wire.ApiError:
    """What the client is told of a fault."""
    if isinstance(fault, Interrupted):
        return wire.ApiError(503, str(fault), code="service_unavailable", headers={"Retry-After": "1"})
    if isinstance(fault, Expired):
        return wire.ApiError(504, str(fault), code="deadline_exceeded")
    if isinstance(fault, Refused):
        after = {"Retry-After": str(fault.retry_after_s)} if fault.retry_after_s else {}
        return wire.ApiError(fault.status, str(fault), param=fault.param, code=fault.code, headers=after)
    return wire.ApiError(500, str(fault))


class _Voice:
    """One choice of a stream. Log probabilities come with the text that they are of."""

    def __init__(self, made: _Chunks, index: int, reading: Reading) -> None:
        self._made, self._index, self._reading = made, index, reading
        self._sent = 0
        self._follower = Follower()

    def opening(self) -> str:
        return self._made.chunk(self._index, wire.Delta(role="assistant", content=""))

    def says(self, piece: str) -> str:
        self._sent += len(piece)
        known = self._reading.logprobs
        if known is None:
            return self._made.text(self._index, piece)
        new = self._follower.more(known, self._sent)
        return self._made.chunk(self._index, wire.Delta(content=piece), logprobs=new)

    def end(self, reply: Reply) -> Iterator[str]:
        for place, call in enumerate(reply.calls):
            yield self._made.chunk(self._index, wire.Delta(tool_calls=[CallDelta(index=place, **call.model_dump())]))
        rest = None if reply.logprobs is None else reply.logprobs[self._follower.place :]
        yield self._made.chunk(self._index, wire.Delta(), reply.finish, logprobs=rest or None)


class _Chunks:
    """Chunks of one answer: same id, time and model. Where usage is asked for, the others carry `usage: null`."""

    def __init__(self, model: str, include_usage: bool) -> None:
        self._head: dict[str, Any] = {"id": wire.new_id(), "created": wire.now(), "model": model}
        self._include_usage = include_usage
        self._around: dict[int, tuple[str, str]] = {}

    def text(self, index: int, piece: str) -> str:
        """The chunk of a piece of text alone: most of a stream, so all but the text is written once."""
        if index not in self._around:
            head, tail = self.chunk(index, wire.Delta(content=_PLACE)).split(json.dumps(_PLACE))
            self._around[index] = head, tail
        head, tail = self._around[index]
        return f"{head}{json.dumps(piece)}{tail}"

    def chunk(
        self,
        index: int,
        delta: wire.Delta,
        reason: wire.FinishReason | None = None,
        *,
        logprobs: Sequence[TokenLogprob] | None = None,
    ) -> str:
        shown = None if logprobs is None else ChoiceLogprobs(content=list(logprobs))
        choice = wire.ChunkChoice(index=index, delta=delta, logprobs=shown, finish_reason=reason).model_dump()
        choice["delta"] = delta.model_dump(exclude_unset=True)
        body = wire.Chunk(**self._head, choices=[]).model_dump() | {"choices": [choice]}
        if not self._include_usage:
            del body["usage"]
        return _event(body)

    def usage(self, counts: wire.Usage) -> str:
        return _event(wire.Chunk(**self._head, choices=[], usage=counts).model_dump())


def _event(body: dict[str, Any]) -> str:
    """ASCII only: U+2028 and U+0085 end a line for some readers."""
    return f"data: {json.dumps(body, separators=(',', ':'))}\n\n"
