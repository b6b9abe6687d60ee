"""One turn's content and tool calls, from whatever type the source gave them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tunewright.core.chat import Message
from tunewright.data.findings import Note, Rejection, excerpt
from tunewright.data.reading.strict_json import NonFinite, Parsed, SourceNumber, parse, plain


@dataclass(frozen=True)
class Turn:
    """A typed turn with what was found in it."""

    message: Message
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class Text:
    """A turn's text; None where it is null and may be."""

    text: str | None
    notes: tuple[Note, ...] = ()


def turn_content(value: Any, number: int, *, may_be_null: bool) -> Text | Rejection:
    """The text of turn `number`: numbers in the spelling of the source, text parts joined, null beside tool calls."""
    if value is None:
        return Text(None) if may_be_null else Rejection("NULL_CONTENT", f"the content of turn {number} is null")
    if isinstance(value, NonFinite):
        return Rejection("NON_FINITE", f"the content of turn {number} is {value}, which is no JSON")
    if isinstance(value, SourceNumber):
        return Text(str(value), (Note("TYPE", "repaired", f"the number of turn {number} is kept as text", str(value)),))
    if isinstance(value, bool):
        text = "true" if value else "false"
        return Text(text, (Note("TYPE", "repaired", f"the {text} of turn {number} is kept as text", text),))
    if isinstance(value, str):
        return Text(value)
    if isinstance(value, list):
        return _joined(value, number)
    return Rejection("TYPE", f"the content of turn {number} is an object", excerpt(str(value)))


def _joined(parts: list[Any], number: int) -> Text | Rejection:
    texts = []
    for part in parts:
        kind = part.get("type", "text") if isinstance(part, dict) else "text"
        if kind != "text":
            reason = f"turn {number} has a part of type '{excerpt(str(kind))}', which needs a multimodal recipe"
            return Rejection("PARTS", reason, excerpt(str(part)))
        text = part.get("text", part.get("value")) if isinstance(part, dict) else part
        if type(text) is not str:
            return Rejection("PARTS", f"turn {number} has a text part without text", excerpt(str(part)))
        texts.append(text)
    whole = "".join(texts)
    return Text(whole, (Note("PARTS", "repaired", f"{len(texts)} text parts of turn {number} joined", excerpt(whole)),))


def tool_calls(value: Any, number: int) -> tuple[dict[str, Any], ...] | Rejection:
    """Calls in OpenAI's form, their arguments as an object (source: OpenAI sends them as JSON inside a text)."""
    if not value:
        return ()
    if isinstance(value, str):
        inner = parse(value, line=1)
        if isinstance(inner, Rejection):
            return Rejection("TOOL_ARGS", f"the tool call of turn {number} is no valid JSON", excerpt(value))
        value = inner.value
    calls = []
    for call in value if isinstance(value, list) else [value]:
        normal = _call(call, number)
        if isinstance(normal, Rejection):
            return normal
        calls.append(normal)
    return tuple(calls)


def _call(call: Any, number: int) -> dict[str, Any] | Rejection:
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or type(function.get("name")) is not str:
        return Rejection("TOOL_ARGS", f"a tool call of turn {number} names no function", excerpt(str(call)))
    arguments = function.get("arguments", function.get("parameters", {}))
    if type(arguments) is str:
        inner = parse(arguments or "{}", line=1)
        arguments = inner.value if isinstance(inner, Parsed) else None
    if not isinstance(arguments, dict):
        return Rejection("TOOL_ARGS", f"the arguments in turn {number} are no JSON object", excerpt(str(function)))
    values, lost = plain({"name": function["name"], "arguments": arguments})
    if lost:
        return Rejection("NON_FINITE", f"the arguments in turn {number} hold NaN or infinity", excerpt(str(arguments)))
    normal: dict[str, Any] = {"type": "function", "function": values}
    if call is not function and type(call.get("id")) is str:
        normal["id"] = call["id"]
    return normal
