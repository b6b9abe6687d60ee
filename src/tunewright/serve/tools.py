"""Tools on the wire: OpenAI's function tools, and the calls of an answer or of an earlier turn.

Source: OpenAI API reference, "Chat", `tools` and `tool_calls`.
"""

from __future__ import annotations

import json
import secrets
import string
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MOST_TOOLS = 128
_LETTERS = string.ascii_letters + string.digits
_ID_SIZE = 9


class Received(BaseModel):
    """What a client sends: exact types, nothing unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _of_an_object(schema: dict[str, Any]) -> dict[str, Any]:
    if schema and schema.get("type") != "object":
        raise ValueError('the JSON schema must have "type": "object"')
    return schema


def _json_object(text: str) -> str:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError("it must be a JSON object as a string")
    return text or "{}"


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class Function(Received):
    """What a tool does. `strict: true` is not enforced here and refused."""

    name: Name
    description: str | None = None
    parameters: Annotated[dict[str, Any], AfterValidator(_of_an_object)] | None = None
    strict: Literal[False] | None = None


class Tool(Received):
    """One tool that the model may call."""

    type: Literal["function"]
    function: Function

    def to_template(self) -> dict[str, Any]:
        """The form that templates render: as it came, in OpenAI's order of keys, without `strict`."""
        given = self.function.model_dump(exclude_none=True, exclude={"strict"})
        return {"type": self.type, "function": given}


class CalledFunction(Received):
    """arguments: a JSON object as text."""

    name: Name
    arguments: Annotated[str, AfterValidator(_json_object)]


class EarlierCall(Received):
    """A call in an assistant's turn that a client sends back."""

    id: Annotated[str, Field(min_length=1, max_length=64)]
    type: Literal["function"]
    function: CalledFunction


class FunctionCall(BaseModel):
    """arguments: a JSON object as text, as OpenAI sends it."""

    name: str
    arguments: str


class ToolCall(BaseModel):
    """A call in an answer."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class CallDelta(ToolCall):
    """A whole call in one chunk of a stream."""

    index: int


def new_call_id() -> str:
    """A fresh id of nine letters and digits: the form that Mistral's templates demand and all others take."""
    return "".join(secrets.choice(_LETTERS) for _ in range(_ID_SIZE))
