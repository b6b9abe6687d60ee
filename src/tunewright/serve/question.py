"""A chat request made ready for the engine, and the engine's refusals in OpenAI's words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from tunewright.core.chat import Message
from tunewright.models.generate import Sampling
from tunewright.models.template import TemplateRefusal, Tools
from tunewright.serve.answers import Answer, Engine, Size
from tunewright.serve.calls import ToolsNotShown
from tunewright.serve.faults import ContextExceeded, NotReady, QueueFull
from tunewright.serve.wire import ApiError, ChatRequest


@dataclass(frozen=True)
class Question:
    """What the engine is asked. exact_length: the client named the length, so it is not lowered."""

    messages: list[Message]
    sampling: Sampling
    exact_length: bool
    tools: Tools | None

    @classmethod
    def of(cls, wanted: ChatRequest, most_tokens: int) -> Question:
        """Raises ApiError for a length over `most_tokens`."""
        tokens = wanted.wanted_tokens
        if tokens is not None and tokens > most_tokens:
            name = "max_tokens" if wanted.max_tokens is not None else "max_completion_tokens"
            message = f"{name} is too large: {tokens}. This server generates at most {most_tokens} tokens a request."
            raise ApiError(400, message, param=name, code="invalid_value")
        sampling = wanted.to_sampling(tokens or most_tokens)
        tools = [tool.to_template() for tool in wanted.offered] or None
        return cls(wanted.to_messages(), sampling, tokens is not None, tools)

    async def submit(self, engine: Engine) -> Answer:
        """Asks the engine; raises ApiError."""
        with refusals():
            return await engine.submit(self.messages, self.sampling, exact_length=self.exact_length, tools=self.tools)

    async def size(self, engine: Engine) -> Size:
        """Its tokens; raises ApiError."""
        with refusals():
            return await engine.size(self.messages, self.sampling, exact_length=self.exact_length, tools=self.tools)


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Turns what an engine raises before it accepts into ApiErrors."""
    try:
        yield
    except ToolsNotShown as error:
        raise ApiError(400, str(error), param=error.param, code="tools_not_supported") from None
    except ContextExceeded as error:
        raise ApiError(400, str(error), param="messages", code="context_length_exceeded") from None
    except TemplateRefusal as error:
        raise ApiError(400, error.problem, param="messages", code="template_refused") from None
    except NotReady as error:
        raise unavailable(f"{str(error).capitalize()}.") from None
    except QueueFull as error:
        raise busy(f"The server is busy: {error}.", error.retry_after_s) from None


def unavailable(message: str) -> ApiError:
    """503: later it may be answered."""
    return ApiError(503, message, code="service_unavailable", headers={"Retry-After": "1"})


def busy(message: str, retry_after_s: int) -> ApiError:
    """429: there is no place now."""
    text = f"{message} Try again in {retry_after_s} s."
    return ApiError(429, text, code="rate_limit_exceeded", headers={"Retry-After": str(retry_after_s)})
