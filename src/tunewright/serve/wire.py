"""The wire: OpenAI's types of /v1/chat/completions, /v1/models and the error envelope, as far as they are supported.

Source: OpenAI API reference, "Chat" and "Models". What changes an answer and is not here is refused (parse.py).
"""

from __future__ import annotations

import time
import uuid
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field

from tunewright.core.chat import Message
from tunewright.models.generate import Sampling
from tunewright.serve.formats import ResponseFormat, schema_text
from tunewright.serve.logprobs import ChoiceLogprobs
from tunewright.serve.tools import MOST_TOOLS, CallDelta, EarlierCall, Received, Tool, ToolCall

MAX_STOP_CHARS = 256
MOST_CHOICES = 8
MOST_LOGPROBS = 20
GREEDY_BELOW = 0.01
"""Temperatures below this are greedy: dividing logits by less overflows, and the answer is the same."""
FinishReason = Literal["stop", "length", "tool_calls"]


class TextPart(Received):
    """One part of a message's content."""

    type: Literal["text"]
    text: str


_Content = str | Annotated[list[TextPart], Field(min_length=1)]


def _as_parts(value: Any) -> Any:
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class ChatMessage(Received):
    """One turn; `content` is a text or a list of text parts, which are joined as they are. Which turns have calls and
    which answer one is checked in parse.py."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Annotated[list[TextPart], Field(min_length=1), BeforeValidator(_as_parts, json_schema_input_type=_Content)]
    tool_calls: list[EarlierCall] = []
    tool_call_id: str | None = None

    def to_message(self) -> Message:
        """The form that templates render: no content is None beside calls."""
        text = "".join(part.text for part in self.content)
        return Message(
            role=self.role,
            content=None if self.tool_calls and not text else text,
            tool_calls=tuple(call.model_dump() for call in self.tool_calls),
            tool_call_id=self.tool_call_id,
        )


class StreamOptions(Received):
    """`include_usage`: one more chunk with the token counts before the end."""

    include_usage: bool = False


Stop = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARS)]
_Stops = Stop | Annotated[list[Stop], Field(max_length=4)]


class ChatRequest(Received):
    """The supported fields of a chat request, with OpenAI's defaults."""

    model: str
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float = Field(default=1.0, ge=0, le=2, allow_inf_nan=False)
    top_p: float = Field(default=1.0, ge=0, le=1, allow_inf_nan=False)
    stop: Annotated[list[Stop], Field(max_length=4), BeforeValidator(_as_list, json_schema_input_type=_Stops)] = []
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = None
    tools: Annotated[list[Tool], Field(max_length=MOST_TOOLS)] = []
    tool_choice: Literal["auto", "none"] | None = None
    parallel_tool_calls: bool | None = None
    n: int = Field(default=1, ge=1, le=MOST_CHOICES)
    logprobs: bool = False
    top_logprobs: int | None = Field(default=None, ge=0, le=MOST_LOGPROBS)
    response_format: ResponseFormat | None = None

    @property
    def offered(self) -> list[Tool]:
        """The tools that the model may call."""
        return [] if self.tool_choice == "none" else self.tools

    @property
    def wanted_tokens(self) -> int | None:
        """The limit under either of its two names."""
        return self.max_completion_tokens if self.max_tokens is None else self.max_tokens

    def to_messages(self) -> list[Message]:
        """The conversation that the template renders."""
        return [message.to_message() for message in self.messages]

    def to_sampling(self, max_new_tokens: int) -> Sampling:
        """How to generate; the engine may lower `max_new_tokens` to what the context leaves."""
        return Sampling(
            max_new_tokens=max_new_tokens,
            temperature=0.0 if self.temperature < GREEDY_BELOW else self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            stop=tuple(self.stop),
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            json_schema=schema_text(self.response_format),
        )


class Usage(BaseModel):
    """Token counts: the prompt's once, new ones of all choices; end tokens are not counted."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AnswerMessage(BaseModel):
    """The assistant's turn."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    tool_calls: list[ToolCall] | None = Field(default=None, exclude_if=lambda calls: calls is None)


class AnswerChoice(BaseModel):
    """One choice of an answer."""

    index: int = 0
    message: AnswerMessage
    logprobs: ChoiceLogprobs | None = None
    finish_reason: FinishReason


class ChatCompletion(BaseModel):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[AnswerChoice]
    usage: Usage


class Delta(BaseModel):
    """What a chunk adds. Fields that are not set are left out of the JSON."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    tool_calls: list[CallDelta] | None = None


class ChunkChoice(BaseModel):
    """The one choice of a chunk."""

    index: int = 0
    delta: Delta
    logprobs: ChoiceLogprobs | None = None
    finish_reason: FinishReason | None = None


class Chunk(BaseModel):
    """One event of a streamed answer; `usage` is in the last one only, and only when it was asked for."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None


class Model(BaseModel):
    """A served model. `created`: seconds since 1970. `base`, `adapter` (how it was tuned, such as `lora`; None for
    whole weights), `variant` and `artifact` say what it is."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "tunewright"
    base: str | None = None
    adapter: str | None = None
    variant: str | None = None
    artifact: str | None = None


class ModelList(BaseModel):
    """The answer of /v1/models."""

    object: Literal["list"] = "list"
    data: list[Model]


class ErrorBody(BaseModel):
    """What went wrong, in OpenAI's words."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(BaseModel):
    """Every answer that is not a success."""

    error: ErrorBody


class ApiError(Exception):
    """An answer other than 200."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers or {}
        self.body = ErrorBody(message=message, type=_error_type(status), param=param, code=code)

    def to_json(self) -> dict[str, Any]:
        """The envelope."""
        return ErrorEnvelope(error=self.body).model_dump()


def _error_type(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    return "server_error" if status >= 500 else "invalid_request_error"


def new_id() -> str:
    """A fresh id of an answer."""
    return f"chatcmpl-{uuid.uuid4().hex}"


def now() -> int:
    """Seconds since 1970."""
    return int(time.time())
