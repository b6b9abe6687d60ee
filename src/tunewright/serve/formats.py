"""The form of an answer on the wire: OpenAI's `response_format`.

Source: OpenAI API reference, "Chat", `response_format`; guide "Structured outputs".
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from tunewright.serve.tools import Received

SCHEMA_PARAM = "response_format.json_schema.schema"
"""Where a request holds its schema."""
ANY_OBJECT = '{"type": "object"}'
"""The schema of `json_object`."""


class NamedSchema(Received):
    """A JSON schema with a name. `strict` may say what it likes: every schema is enforced."""

    model_config = ConfigDict(serialize_by_alias=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class TextFormat(Received):
    """Any text."""

    type: Literal["text"]


class ObjectFormat(Received):
    """A JSON object, whatever is in it."""

    type: Literal["json_object"]


class SchemaFormat(Received):
    """JSON of a schema."""

    model_config = ConfigDict(serialize_by_alias=True)

    type: Literal["json_schema"]
    json_schema: NamedSchema


ResponseFormat = Annotated[TextFormat | ObjectFormat | SchemaFormat, Field(discriminator="type")]


def schema_text(wanted: ResponseFormat | None) -> str | None:
    """The schema that the answer must follow, as it came (the order of its properties is that of the answer's); None
    for any text."""
    if isinstance(wanted, ObjectFormat):
        return ANY_OBJECT
    return json.dumps(wanted.json_schema.schema_, ensure_ascii=False) if isinstance(wanted, SchemaFormat) else None
