"""Server-sent events as OpenAI frames them: role, text, finish reason, usage if asked for, `[DONE]`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from tunewright.serve import wire
from tunewright.serve.answers import Answer, EngineFault, Interrupted

DONE = "data: [DONE]\n\n"


class EventStream(StreamingResponse):
    """A stream that calls `at_end` however it ends: finished, failed, or left by its client."""

    def __init__(self, content: AsyncIterator[str], at_end: Callable[[], None]) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(content, media_type="text/event-stream", headers=headers)
        self._at_end = at_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._at_end()


async def events(answer: Answer, first: str | None, *, model: str, include_usage: bool) -> AsyncIterator[str]:
    """The events of an answer whose first piece is known already (None: it ended without text)."""
    made = _Chunks(model, include_usage)
    yield made.chunk(wire.Delta(role="assistant", content=""))
    try:
        piece = first
        while piece is not None:
            yield made.chunk(wire.Delta(content=piece))
            piece = await answer.next()
    except EngineFault as fault:
        status = 503 if isinstance(fault, Interrupted) else 500
        code = "service_unavailable" if isinstance(fault, Interrupted) else None
        yield _event(wire.ApiError(status, str(fault), code=code).to_json())
        return
    yield made.chunk(wire.Delta(), finish_reason(answer))
    if include_usage:
        yield made.usage(usage(answer))
    yield DONE


class _Chunks:
    """Chunks of one answer: same id, time and model. Where usage is asked for, the others carry `usage: null`."""

    def __init__(self, model: str, include_usage: bool) -> None:
        self._head: dict[str, Any] = {"id": wire.new_id(), "created": wire.now(), "model": model}
        self._include_usage = include_usage

    def chunk(self, delta: wire.Delta, reason: wire.FinishReason | None = None) -> str:
        choice = wire.ChunkChoice(delta=delta, finish_reason=reason).model_dump()
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


def finish_reason(answer: Answer) -> wire.FinishReason:
    """Of an answer that has ended by itself."""
    reason = answer.request.finish
    assert reason in ("stop", "length"), reason
    return reason


def usage(answer: Answer) -> wire.Usage:
    """Token counts of an answer that has ended."""
    prompt, new = answer.prompt_tokens, answer.completion_tokens
    return wire.Usage(prompt_tokens=prompt, completion_tokens=new, total_tokens=prompt + new)
