"""A chat request made ready for the engine, and the engine's refusals in OpenAI's words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tunewright.core.chat import Message
from tunewright.core.errors import MissingExtraError
from tunewright.models.constraint import SchemaRefused
from tunewright.models.generate import Sampling
from tunewright.models.template import TemplateRefusal, Tools
from tunewright.models.token_bytes import BytesUnknown
from tunewright.serve.answers import Answer, Engine, Size
from tunewright.serve.calls import ToolsNotShown
from tunewright.serve.faults import ContextExceeded, NotReady, QueueFull
from tunewright.serve.formats import SCHEMA_PARAM
from tunewright.serve.wire import ApiError, ChatRequest

_SEEDS = 2**64


@dataclass(frozen=True)
class Question:
    """What the engine is asked. exact_length: the client named the length, so it is not lowered; choices: how many
    answers are wanted."""

    messages: list[Message]
    sampling: Sampling
    exact_length: bool
    tools: Tools | None
    choices: int = 1

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
        return cls(wanted.to_messages(), sampling, tokens is not None, tools, wanted.n)

    async def submit(self, engine: Engine) -> Answer:
        """Asks the engine; raises ApiError."""
        with refusals():
            (answer,) = await engine.submit(
                self.messages, [self.sampling], exact_length=self.exact_length, tools=self.tools
            )
        return answer

    async def submit_all(self, engine: Engine) -> list[Answer]:
        """Asks for every choice, all or none; raises ApiError. With a seed, choice i is drawn with seed + i."""
        seed = self.sampling.seed
        seeds = [None if seed is None else _as_seed(seed + choice) for choice in range(self.choices)]
        samplings = [replace(self.sampling, seed=seed) for seed in seeds]
        with refusals():
            return await engine.submit(self.messages, samplings, exact_length=self.exact_length, tools=self.tools)

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
    except SchemaRefused as error:
        raise _schema_refused(error) from None
    except MissingExtraError as error:
        message = f"This server cannot enforce it: {error.problem}. Its operator can install it: {error.fix}."
        raise ApiError(400, message, param=error.where, code="unsupported_parameter") from None
    except BytesUnknown as error:
        message = f"Neither 'logprobs' nor a JSON 'response_format' is possible with this model: {error.problem}."
        raise ApiError(400, message, code="unsupported_parameter") from None
    except NotReady as error:
        raise unavailable(f"{str(error).capitalize()}.") from None
    except QueueFull as error:
        raise busy(f"The server is busy: {error}.", error.retry_after_s) from None


def _schema_refused(error: SchemaRefused) -> ApiError:
    param = f"{SCHEMA_PARAM}.{error.where}" if error.where else SCHEMA_PARAM
    message = f"Invalid schema in '{param}': {error.problem.rstrip('.')}."
    return ApiError(400, message, param=param, code="invalid_json_schema")


def _as_seed(number: int) -> int:
    """A seed over the largest one goes on at the smallest one."""
    return (number + _SEEDS // 2) % _SEEDS - _SEEDS // 2


def unavailable(message: str) -> ApiError:
    """503: later it may be answered."""
    return ApiError(503, message, code="service_unavailable", headers={"Retry-After": "1"})


def busy(message: str, retry_after_s: int) -> ApiError:
    """429: there is no place now."""
    text = f"{message} Try again in {retry_after_s} s."
    return ApiError(429, text, code="rate_limit_exceeded", headers={"Retry-After": str(retry_after_s)})
