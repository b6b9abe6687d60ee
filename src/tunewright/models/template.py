"""The model's own chat template: sandboxed jinja2, rendered the same way in every stage.

Proven equal to transformers' `apply_chat_template` in tests/models/test_tokens.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tunewright.core.chat import Message
from tunewright.core.errors import ArtifactError, TunewrightError


class TemplateRefusal(TunewrightError):
    """The chat template raised: it does not take these messages."""


class ChatTemplate:
    """`source` is jinja text; `names` are the special tokens' texts that templates may use (`bos_token`, ...)."""

    def __init__(self, source: str, names: Mapping[str, str]) -> None:
        self.source, self.names = source, dict(names)

    @cached_property
    def sha256(self) -> str:
        """Identity of the template: evaluate and serve refuse another one than was trained."""
        return hashlib.sha256(self.source.encode()).hexdigest()

    @cached_property
    def _compiled(self) -> Any:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, loopcontrols]
        )
        environment.filters["tojson"] = _tojson
        environment.globals |= {"raise_exception": _raise, "strftime_now": lambda f: datetime.now().strftime(f)}
        try:
            return environment.from_string(self.source)
        except TemplateError as error:
            raise ArtifactError(f"the chat template is no valid jinja: {error}", where="chat template") from None

    def render(self, messages: Sequence[Message], *, generation_prompt: bool = False) -> str:
        """The template's text. A system turn is folded into the next user turn where the template takes none."""
        turns = messages if self.takes_system else fold_system(messages)
        return self._render([message.to_template() for message in turns], generation_prompt)

    def _render(self, turns: list[dict[str, Any]], generation_prompt: bool) -> str:
        try:
            return str(self._compiled.render(messages=turns, add_generation_prompt=generation_prompt, **self.names))
        except (TemplateError, TypeError, KeyError, AttributeError) as error:
            raise TemplateRefusal(f"the chat template refuses these messages: {error}") from None

    @cached_property
    def takes_system(self) -> bool:
        """Whether a system turn reaches the rendered text."""
        probe = [{"role": "system", "content": "S1Y2S3"}, {"role": "user", "content": "hi"}]
        try:
            return "S1Y2S3" in self._render(probe, True)
        except TemplateRefusal:
            return False


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


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **_: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def _raise(message: str) -> None:
    raise TemplateError(message)


class _GenerationBlock(Extension):
    """`{% generation %}` blocks render as their content; our mask does not need them."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)
