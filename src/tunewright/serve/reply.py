"""A finished answer as data: what the cache keeps, and what every way of answering is made from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Protocol

from tunewright.serve import wire
from tunewright.serve.tools import FunctionCall, ToolCall, new_call_id


@dataclass(frozen=True)
class Reply:
    """content: None where only tools are called; token counts leave out end tokens."""

    content: str | None
    calls: tuple[ToolCall, ...]
    finish: wire.FinishReason
    prompt_tokens: int
    completion_tokens: int

    @property
    def usage(self) -> wire.Usage:
        """The counts as OpenAI sends them."""
        prompt, new = self.prompt_tokens, self.completion_tokens
        return wire.Usage(prompt_tokens=prompt, completion_tokens=new, total_tokens=prompt + new)

    def completion(self, model: str) -> wire.ChatCompletion:
        """The body of an answer that is not streamed."""
        message = wire.AnswerMessage(content=self.content, tool_calls=list(self.calls) or None)
        choice = wire.AnswerChoice(message=message, finish_reason=self.finish)
        return wire.ChatCompletion(
            id=wire.new_id(), created=wire.now(), model=model, choices=[choice], usage=self.usage
        )

    def to_json(self) -> str:
        """For a store of answers."""
        calls = [call.function.model_dump() for call in self.calls]
        counts = [self.prompt_tokens, self.completion_tokens]
        return json.dumps([self.content, calls, self.finish, *counts], ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Reply:
        """Reads `to_json`. Calls get fresh ids: an id names one call of one conversation. Raises ValueError."""
        content, calls, finish, prompt, new = json.loads(text)
        made = tuple(ToolCall(id=new_call_id(), function=FunctionCall(**call)) for call in calls)
        return cls(content, made, finish, prompt, new)


class Reading(Protocol):
    """One client's way through one answer, whether it is being generated or was kept."""

    async def next(self) -> str | None:
        """The next piece of text, None at the end; raises EngineFault."""
        ...

    async def whole(self) -> Reply:
        """The answer at its end; raises EngineFault."""
        ...

    @property
    def tokens(self) -> int:
        """New tokens so far."""
        ...

    def leave(self) -> None:
        """The client reads no more. Harmless after the end."""
        ...


class Kept:
    """A Reading of an answer that is there already."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._is_read = False

    async def next(self) -> str | None:
        """All text at once."""
        if self._is_read:
            return None
        self._is_read = True
        return self._reply.content or None

    async def whole(self) -> Reply:
        """The answer."""
        return self._reply

    @property
    def tokens(self) -> int:
        """Its new tokens."""
        return self._reply.completion_tokens

    def leave(self) -> None:
        """Nothing runs that could be stopped."""
