"""Tool calls in an answer's text: found in the form that the model's own template writes them, else left as text."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tunewright.core.chat import Message
from tunewright.models.generate import Request
from tunewright.models.template import TemplateRefusal, Tools
from tunewright.models.tokens import ChatTokenizer
from tunewright.serve.tools import FunctionCall, ToolCall, new_call_id

Form = Literal["tags", "list"]
MARKS: dict[Form, str] = {"tags": "<tool_call>", "list": "[TOOL_CALLS]"}
"""tags: `<tool_call>{json}</tool_call>` for each call (Hermes, Qwen); list: `[TOOL_CALLS]` and a JSON list of calls, or
`name[ARGS]{json}` for each (Mistral, older and newer)."""
_END = "</tool_call>"
_NEWER = re.compile(r"([A-Za-z0-9_.-]+)(?:\[CALL_ID\][A-Za-z0-9]*)?\[ARGS\]")
_THOUGHT = "</think>"


class ToolsNotShown(Exception):
    """The model's template leaves out what the request says of tools. param: the part of the request."""

    def __init__(self, param: str, reason: str) -> None:
        super().__init__(reason)
        self.param = param


@dataclass(frozen=True)
class Spoken:
    """An answer taken apart: what is said to the user (None for nothing) and the calls."""

    content: str | None
    calls: tuple[ToolCall, ...]


def form_of(template: str) -> Form | None:
    """The form in which a template's source writes calls; None for one that is not read here."""
    return next((form for form, mark in MARKS.items() if mark in template), None)


def shown_prompt(tokenizer: ChatTokenizer, messages: Sequence[Message], tools: Tools | None) -> list[int]:
    """Ids of the prompt. Raises ToolsNotShown where the template leaves out the tools, or a call of an earlier turn:
    the model would be asked something else than the client means."""
    if tools and not tokenizer.template.takes_tools:
        raise ToolsNotShown(
            "tools",
            "This model's chat template does not show tools to the model, so it cannot know them. Leave 'tools' out, "
            "or serve a model whose template takes tools.",
        )
    names = [(place, call["function"]["name"]) for place, turn in enumerate(messages) for call in turn.tool_calls]
    if not names:
        return tokenizer.prompt_ids(messages, tools=tools)
    param = f"messages[{names[0][0]}].tool_calls"
    hidden = f"'{param}': this model's chat template does not show tool calls to the model."
    try:
        ids = tokenizer.prompt_ids(messages, tools=tools)
    except TemplateRefusal as refusal:
        if _shows_calls(tokenizer):
            raise
        raise ToolsNotShown(param, hidden) from refusal
    shown = tokenizer.decode(ids, keep_special=True)
    if not all(name in shown for _, name in names):
        raise ToolsNotShown(param, hidden)
    return ids


def _shows_calls(tokenizer: ChatTokenizer) -> bool:
    call = {"id": "a1b2c3d4e", "type": "function", "function": {"name": "f1n2", "arguments": {}}}
    turns = (Message(role="user", content="a"), Message(role="assistant", content=None, tool_calls=(call,)))
    try:
        return "f1n2" in tokenizer.template.render(turns)
    except TemplateRefusal:
        return False


class CallReader:
    """Reads the answers to one request. names: the tools that were offered; a call of any other stays text."""

    def __init__(self, tokenizer: ChatTokenizer, names: Collection[str]) -> None:
        self._tokenizer, self._names = tokenizer, frozenset(names)
        self._form = form_of(tokenizer.template.source)
        self.mark = MARKS[self._form] if self._form else ""
        self._mark_id = tokenizer.segments.controls.get(self.mark)

    def may_call(self, request: Request) -> bool:
        """Whether the mark of a call has been generated; in the text itself it may be left out as a control token."""
        return bool(self.mark) and (self.mark in request.text or self._mark_id in request.output_ids)

    def read(self, request: Request) -> Spoken:
        """An answer that has ended. One that was cut, or in which any call is not whole, is text."""
        text = Spoken(request.text, ())
        if request.finish != "stop" or not self.may_call(request):
            return text
        whole = request.text
        if self.mark not in whole:
            whole = self._tokenizer.decode(request.output_ids, keep_special=True)
        start = whole.find(self.mark, max(0, whole.find(_THOUGHT)))  # a call that is only thought of is none
        if start < 0:
            return text
        found = _tagged(whole[start:]) if self._form == "tags" else _listed(whole[start + len(self.mark) :])
        calls = [call for one in found or [] if (call := self._call(one)) is not None]
        if not found or len(calls) < len(found):
            return text
        return Spoken(whole[:start].rstrip() or None, tuple(calls))

    def _call(self, value: Any) -> ToolCall | None:
        name = value.get("name") if isinstance(value, dict) else None
        if not isinstance(name, str) or name not in self._names:
            return None
        arguments = value.get("arguments", value.get("parameters", {}))
        if isinstance(arguments, str):
            arguments = _json(arguments)
        if not isinstance(arguments, dict):
            return None
        function = FunctionCall(name=name, arguments=json.dumps(arguments, ensure_ascii=False))
        return ToolCall(id=new_call_id(), function=function)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _tagged(text: str) -> list[Any] | None:
    """The JSON of every block; None where anything but blanks stands between them or one has no end."""
    found = []
    while text := text.strip():
        inner, end, rest = text.removeprefix(MARKS["tags"]).partition(_END)
        if not text.startswith(MARKS["tags"]) or not end:
            return None
        found.append(_json(inner))
        text = rest
    return found


def _listed(text: str) -> list[Any] | None:
    """The calls behind the mark; None where they are in neither of the two ways."""
    text = text.strip()
    if text.startswith("["):
        found = _json(text)
        return found if isinstance(found, list) else None
    calls: list[Any] = []
    while text:
        head = _NEWER.match(text)
        try:
            arguments, end = json.JSONDecoder().raw_decode(text, head.end()) if head else (None, 0)
        except ValueError:
            return None
        if head is None:
            return None
        calls.append({"name": head[1], "arguments": arguments})
        text = text[end:].strip().removeprefix(MARKS["list"]).strip()
    return calls


class HeldText:
    """A stream's text up to where a call may begin. What it gives out is always the beginning of the spoken content."""

    def __init__(self, reader: CallReader) -> None:
        self._reader = reader
        self._text = ""
        self._sent = 0

    def more(self, piece: str, request: Request) -> str:
        """What can be sent now that `piece` has come."""
        self._text += piece
        end = len(self._text)
        if self._reader.may_call(request):
            mark = self._text.find(self._reader.mark)
            end = mark if mark >= 0 else self._sent
        sent, self._sent = self._sent, max(self._sent, _safe(self._text[:end], self._reader.mark))
        return self._text[sent : self._sent]


def _safe(text: str, mark: str) -> int:
    """Length of `text` without the beginning of a mark at its end, and without blanks before one."""
    sizes = (size for size in range(len(mark) - 1, 0, -1) if text.endswith(mark[:size]))
    return len(text[: len(text) - next(sizes, 0)].rstrip())
