"""A conversation made ready for the engine in this process: its prompt, what reads its answer, what restricts it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.core.chat import Message
from tunewright.models.constraint import Grammars
from tunewright.models.generate import Request, Sampling
from tunewright.models.template import Tools
from tunewright.models.tokens import ChatTokenizer
from tunewright.serve.answers import Size, fitted
from tunewright.serve.calls import CallReader, shown_prompt
from tunewright.serve.logprobs import TokenLog


@dataclass(frozen=True)
class Loaded:
    """A model ready to generate; `context`: most tokens of prompt and answer together."""

    model: Any
    tokenizer: ChatTokenizer
    context: int


@dataclass(frozen=True)
class Prepared:
    """One answer before it begins. calls: None where no tool was offered; log: None where no log probabilities were
    asked for."""

    request: Request
    calls: CallReader | None
    log: TokenLog | None


class Preparer:
    """Makes requests for one loaded model, on any thread."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._grammars = Grammars(loaded.tokenizer)

    def prepare(
        self, messages: Sequence[Message], samplings: Sequence[Sampling], *, exact_length: bool, tools: Tools | None
    ) -> list[Prepared]:
        """One for each sampling; they share their prompt. Raises as `Engine.submit`."""
        tokenizer, context = self._loaded.tokenizer, self._loaded.context
        prompt = shown_prompt(tokenizer, messages, tools)
        names = [tool["function"]["name"] for tool in tools or ()]
        made = []
        for sampling in samplings:
            request = Request(prompt, fitted(len(prompt), sampling, context, exact_length=exact_length))
            if sampling.json_schema is not None:
                request.constraint = self._grammars.constraint(sampling.json_schema)
            log = None if sampling.logprobs is None else TokenLog(request, tokenizer)
            made.append(Prepared(request, CallReader(tokenizer, names) if names else None, log))
        return made

    def size(self, messages: Sequence[Message], sampling: Sampling, *, exact_length: bool, tools: Tools | None) -> Size:
        """How large a request is. Raises as `Engine.size`."""
        (one,) = self.prepare(messages, [sampling], exact_length=exact_length, tools=tools)
        return Size(len(one.request.prompt_ids), one.request.sampling.max_new_tokens)
