"""Changing the texts inside nested JSON values, the same for training rows and for requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
