"""A finished answer as data: what the cache keeps, and what every way of answering is made from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tunewright.serve import wire
from tunewright.serve.logprobs import ChoiceLogprobs, TokenLogprob
from tunewright.serve.tools import FunctionCall, ToolCall, new_call_id


@dataclass(frozen=True)
class Reply:
    """content: None where only tools are called; token counts leave out end tokens; logprobs: those of `content`, None
    where they were not asked for."""

    content: str | None
    calls: tuple[ToolCall, ...]
    finish: wire.FinishReason
    prompt_tokens: int
    completion_tokens: int
    logprobs: tuple[TokenLogprob, ...] | None = None

    def choice(self, index: int) -> wire.AnswerChoice:
        """It as one choice of an answer."""
        message = wire.AnswerMessage(content=self.content, tool_calls=list(self.calls) or None)
        logprobs = None if self.logprobs is None else ChoiceLogprobs(content=list(self.logprobs))
        return wire.AnswerChoice(index=index, message=message, logprobs=logprobs, finish_reason=self.finish)

    def to_json(self) -> str:
        """For a store of answers."""
        calls = [call.function.model_dump() for call in self.calls]
        counts = [self.prompt_tokens, self.completion_tokens]
        logprobs = None if self.logprobs is None else [entry.model_dump() for entry in self.logprobs]
        return json.dumps([self.content, calls, self.finish, *counts, logprobs], ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Reply:
        """Reads `to_json`. Calls get fresh ids: an id names one call of one conversation. Raises ValueError."""
        content, calls, finish, prompt, new, logprobs = json.loads(text)
        made = tuple(ToolCall(id=new_call_id(), function=FunctionCall(**call)) for call in calls)
        entries = None if logprobs is None else tuple(TokenLogprob.model_validate(entry) for entry in logprobs)
        return cls(content, made, finish, prompt, new, entries)


def usage(replies: Sequence[Reply]) -> wire.Usage:
    """The counts of an answer of one or more choices as OpenAI sends them: the prompt counts once."""
    prompt, new = replies[0].prompt_tokens, sum(reply.completion_tokens for reply in replies)
    return wire.Usage(prompt_tokens=prompt, completion_tokens=new, total_tokens=prompt + new)


def completion(replies: Sequence[Reply], model: str) -> wire.ChatCompletion:
    """The body of an answer that is not streamed."""
    choices = [reply.choice(index) for index, reply in enumerate(replies)]
    return wire.ChatCompletion(id=wire.new_id(), created=wire.now(), model=model, choices=choices, usage=usage(replies))


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

    @property
    def logprobs(self) -> Sequence[TokenLogprob] | None:
        """Entries of all tokens so far, which may be ahead of the text; None where they were not asked for."""
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

    @property
    def logprobs(self) -> Sequence[TokenLogprob] | None:
        """All of its entries."""
        return self._reply.logprobs

    def leave(self) -> None:
        """Nothing runs that could be stopped."""
