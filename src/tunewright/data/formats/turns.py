"""One turn's content and tool calls, from whatever type the source gave them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tunewright.core.chat import Message
from tunewright.data.findings import Note, Rejection, excerpt
from tunewright.data.reading.strict_json import NonFinite, Parsed, SourceNumber, parse, plain

_TEXTS = ("text", "input_text", "output_text")
_THOUGHTS = ("reasoning", "thinking")
_CALLS = ("tool_call", "function_call")


@dataclass(frozen=True)
class Turn:
    """A typed turn with what was found in it."""

    message: Message
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class Text:
    """A turn's text; None where it is null and may be. calls: tool calls that stood among the parts of the content."""

    text: str | None
    notes: tuple[Note, ...] = ()
    calls: tuple[dict[str, Any], ...] = ()


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
    """Text parts as one text; reasoning as a <think> block, which is how models of today spell it."""
    texts: list[str] = []
    calls: list[dict[str, Any]] = []
    notes: list[Note] = []
    for part in parts:
        kind = part.get("type", "text") if isinstance(part, dict) else "text"
        if kind in _CALLS:
            found = tool_calls(part.get("value", part.get(kind)), number)
            if isinstance(found, Rejection):
                return found
            calls += found
            continue
        if kind not in _TEXTS and kind not in _THOUGHTS:
            needs = "which needs a multimodal recipe" if _is_media(kind) else "which is not read"
            reason = f"turn {number} has a part of type '{excerpt(str(kind))}', {needs}"
            return Rejection("PARTS", reason, excerpt(str(part)))
        text = _part_text(part, kind) if isinstance(part, dict) else part
        if type(text) is not str:
            return Rejection("PARTS", f"turn {number} has a {kind} part without text", excerpt(str(part)))
        if kind in _THOUGHTS:
            reason = f"the reasoning of turn {number} became a <think> block"
            notes.append(Note("THINK_BLOCK", "repaired", reason, excerpt(text)))
            text = think_block(text)
        texts.append(text)
    whole = "".join(texts)
    count = f"{len(parts)} text parts" if len(parts) > 1 else "the text part"
    notes.append(
        Note(
            "PARTS",
            "repaired",
            f"{count} of turn {number} {'joined' if len(parts) > 1 else 'is its text'}",
            excerpt(whole),
        )
    )
    return Text(whole if texts or not calls else None, tuple(notes), tuple(calls))


def think_block(reasoning: str) -> str:
    """Reasoning as it stands in front of an answer, in the writing of Qwen3 and DeepSeek-R1."""
    return f"<think>\n{reasoning}\n</think>\n\n"


def _part_text(part: dict[str, Any], kind: str) -> Any:
    return next((part[name] for name in ("text", "value", kind) if part.get(name) is not None), None)


def _is_media(kind: Any) -> bool:
    return any(name in str(kind) for name in ("image", "audio", "video", "file", "document"))


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
