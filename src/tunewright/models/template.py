"""The model's own chat template: sandboxed jinja2, rendered the same way in every stage.

Proven equal to transformers' `apply_chat_template` in tests/models/test_templates.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tunewright.core.chat import Message
from tunewright.core.errors import ArtifactError, TunewrightError
from tunewright.models.turn_form import TurnForm

Tools = Sequence[Mapping[str, Any]]
"""Tool descriptions in OpenAI's form."""


class TemplateRefusal(TunewrightError):
    """The chat template raised: it does not take these messages."""


@dataclass(frozen=True, slots=True)
class CallForm:
    """How a template takes a turn of tool calls. arguments_as_text: as JSON text, else as an object; null_content:
    None where the turn has no text, else an empty text."""

    arguments_as_text: bool
    null_content: bool


_FORMS = tuple(CallForm(text, null) for text in (False, True) for null in (True, False))


class ChatTemplate:
    """`source` is jinja text; `names` are the special tokens' texts that templates may use (`bos_token`, ...)."""

    def __init__(self, source: str, names: Mapping[str, str]) -> None:
        self.source, self.names = source, {name: text for name, text in names.items() if text}

    @cached_property
    def sha256(self) -> str:
        """Identity of the template: evaluate and serve refuse another one than was trained."""
        return hashlib.sha256(self.source.encode()).hexdigest()

    @cached_property
    def _compiled(self) -> Any:
        environment = _Environment(trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, loopcontrols])
        environment.filters["tojson"] = _tojson
        environment.globals |= {"raise_exception": _raise, "strftime_now": lambda f: datetime.now().strftime(f)}
        try:
            return environment.from_string(self.source)
        except TemplateError as error:
            raise ArtifactError(f"the chat template is no valid jinja: {error}", where="chat template") from None

    def syntax(self) -> nodes.Template:
        """The template's syntax tree. Raises ArtifactError for a template that is no valid jinja."""
        tree: nodes.Template = self._compiled.environment.parse(self.source)
        return tree

    @cached_property
    def _constants(self) -> dict[str, Any]:
        """What every rendering has. transformers always sets tools and documents, None where there are none."""
        return {**self._compiled.globals, "tools": None, "documents": None, **self.names}

    def render(
        self, messages: Sequence[Message], *, generation_prompt: bool = False, tools: Tools | None = None
    ) -> str:
        """The template's text. A system turn is folded into the next user turn where the template takes none."""
        return self.render_turns(self.turns(messages), generation_prompt=generation_prompt, tools=tools)

    def turns(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """The dicts that the template gets: system turns folded and tool calls in the form that it takes."""
        taken = messages if self.takes_system else fold_system(messages)
        return self.turn_form.applied([self._turn(message) for message in taken])

    def count_turns(self, messages: Sequence[Message]) -> int:
        """How many of `turns` come from these messages."""
        return len(messages) if self.takes_system else sum(message.role != "system" for message in messages)

    def _turn(self, message: Message) -> dict[str, Any]:
        turn = message.to_template()
        return _called(turn, self.call_form) if message.tool_calls else turn

    def render_turns(
        self, turns: Sequence[Mapping[str, Any]], *, generation_prompt: bool = False, tools: Tools | None = None
    ) -> str:
        """The template's text for dicts that `turns` made. Raises TemplateRefusal with the template's own words."""
        values = {**self._constants, "messages": turns, "add_generation_prompt": generation_prompt}
        if tools:
            values["tools"] = tools
        try:
            # Template.render without its copies of all variables, which take half of its time
            context = Context(self._compiled.environment, values, None, self._compiled.blocks)
            return "".join(self._compiled.root_render_func(context))
        except (TemplateError, TypeError, LookupError, AttributeError, ValueError) as error:
            raise TemplateRefusal(f"the chat template refuses these messages: {error}") from None

    @cached_property
    def takes_system(self) -> bool:
        """Whether a system turn reaches the rendered text."""
        return "S1Y2S3" in self._attempt([{"role": "system", "content": "S1Y2S3"}, _ASK], generation_prompt=True)

    @cached_property
    def takes_tools(self) -> bool:
        """Whether descriptions of tools reach the rendered text."""
        tool = {"type": "function", "function": {"name": "t1o2l3", "description": "d", "parameters": {}}}
        return "t1o2l3" in self._attempt([_ASK], generation_prompt=True, tools=[tool])

    @cached_property
    def turn_form(self) -> TurnForm:
        """Where the template wants reasoning, and whether tool calls need ids."""
        return TurnForm(self._attempt)

    @cached_property
    def call_form(self) -> CallForm:
        """The first form in which a call's arguments reach the text as JSON or in a writing of the template's own.

        A template that prints the object itself would show Python's spelling of it ({'city': ...}), one that dumps
        a text would quote it twice: both count as not taken.
        """
        return next((form for form in _FORMS if self._shows_call(form)), _FORMS[0])

    def _shows_call(self, form: CallForm) -> bool:
        call = {"id": "a1b2c3d4e", "type": "function", "function": {"name": "f1n2", "arguments": {"k1y": "v1l"}}}
        turns = [_ASK, _called({"role": "assistant", "content": None, "tool_calls": [call]}, form)]
        shown = self._attempt(turns)
        return all(part in shown for part in ("f1n2", "k1y", "v1l")) and not any(
            wrong in shown for wrong in ("'k1y'", '\\"k1y', "None")
        )

    def _attempt(self, turns: Sequence[Any], *, generation_prompt: bool = False, tools: Tools | None = None) -> str:
        try:
            return self.render_turns(turns, generation_prompt=generation_prompt, tools=tools)
        except TemplateRefusal:
            return ""


_ASK = {"role": "user", "content": "hi"}


def _called(turn: dict[str, Any], form: CallForm) -> dict[str, Any]:
    calls = [_in_form(call, as_text=form.arguments_as_text) for call in turn["tool_calls"]]
    content = turn["content"] if form.null_content or turn["content"] is not None else ""
    return {**turn, "content": content, "tool_calls": calls}


def _in_form(call: dict[str, Any], *, as_text: bool) -> dict[str, Any]:
    """The call with its arguments as JSON text or as an object; a text that is no JSON stays as it is."""
    function = call.get("function")
    arguments = function.get("arguments") if isinstance(function, dict) else None
    if arguments is None or isinstance(arguments, str) == as_text:
        return call
    try:
        changed = _tojson(arguments) if as_text else json.loads(arguments)
    except ValueError:
        return call
    return {**call, "function": {**call["function"], "arguments": changed}}


def tools_of(metadata: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The tools of a row: `metadata.tools`, a list or a list as JSON text; bare functions get OpenAI's frame.

    None where there are none, or the value is no list of objects.
    """
    found = metadata.get("tools")
    if isinstance(found, str):
        try:
            found = json.loads(found)
        except ValueError:
            return None
    if not isinstance(found, list) or not found or not all(isinstance(tool, dict) for tool in found):
        return None
    return [tool if "function" in tool else {"type": "function", "function": tool} for tool in found]


def fold_system(messages: Sequence[Message]) -> list[Message]:
    """Puts each system turn's text in front of the next user turn."""
    folded: list[Message] = []
    pending = ""
    for message in messages:
        if message.role == "system":
            pending = f"{pending}{message.content}\n"
        elif pending and message.role == "user":
            folded.append(message.model_copy(update={"content": f"{pending}{message.content}"}))
            pending = ""
        else:
            folded.append(message)
    return folded


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """transformers' filter: jinja's own escapes HTML characters."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> None:
    raise TemplateError(message)


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox, with a short way for what it always allows: `message.content` and `loop.first`."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        """The same value as the sandbox's own, which asks many questions first."""
        if type(obj) is dict and attribute not in _DICT_NAMES and attribute in obj:
            return obj[attribute]
        if type(obj) is LoopContext and attribute in _LOOP_NAMES:
            return getattr(obj, attribute)
        return super().getattr(obj, attribute)


_DICT_NAMES = frozenset(dir(dict))
_LOOP_NAMES = frozenset({"first", "last", "index", "index0", "length", "previtem", "nextitem", "revindex", "revindex0"})


class _GenerationBlock(Extension):
    """`{% generation %}` blocks render as their content; our mask does not need them."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)
