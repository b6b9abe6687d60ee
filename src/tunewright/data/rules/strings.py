"""Walking through nested JSON values: tool call arguments and metadata."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tunewright.core.chat import Message

_LARGEST_EXACT = 2**53


def rewrite(value: Any, change: Callable[[str], str]) -> Any:
    """`value` with `change` applied to every text in it, and to whole numbers, which stay what they are where it
    changes nothing: a telephone number may be the int 13812345678, or the float 13812345678.0 of a table with gaps.
    """
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [rewrite(item, change) for item in value]
    if isinstance(value, dict):
        return {key: rewrite(item, change) for key, item in value.items()}
    if type(value) is int or (type(value) is float and value.is_integer() and abs(value) < _LARGEST_EXACT):
        shown = str(int(value))
        changed = change(shown)
        return value if changed == shown else changed
    return value


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
