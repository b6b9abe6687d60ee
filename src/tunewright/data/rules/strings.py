"""Walking through the nested JSON values of a row: tool call arguments and metadata."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tunewright.core.chat import Message
from tunewright.core.text.nested import rewrite


def rewrite_calls(turn: Message, change: Callable[[str], str]) -> tuple[dict[str, Any], ...]:
    """The turn's tool calls with their arguments rewritten; names and ids stay."""
    calls = []
    for call in turn.tool_calls:
        function = call["function"]
        calls.append({**call, "function": {**function, "arguments": rewrite(function["arguments"], change)}})
    return tuple(calls)


def texts_of(value: Any) -> Iterator[str]:
    """Every text in a nested value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts_of(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from texts_of(item)
