"""A report without what it says of certain rows: numbers stay, their words go."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

PURGED = "[purged]"
_NAMES = ("id", "row", "parent", "train_id", "source", "path", "line", "code", "action", "kind", "byte_offset")
"""Keys whose values say where a row was, not what it said."""


def scrubbed(
    value: Any, *, ids: Collection[str], places: Collection[tuple[str, int]], shows: Callable[[str], bool]
) -> Any:
    """A copy of a JSON document in which every text that `shows` a purged row, and every text beside the id or the
    (source, line) of one, is replaced by "[purged]". Ids, numbers, keys and structure stay."""
    if isinstance(value, dict):
        is_about = _is_about(value, ids, places)
        return {
            key: inner
            if key in _NAMES and isinstance(inner, str | int)
            else _blank(inner)
            if is_about and isinstance(inner, str)
            else scrubbed(inner, ids=ids, places=places, shows=shows)
            for key, inner in value.items()
            if not shows(str(key))
        }
    if isinstance(value, list):
        return [scrubbed(inner, ids=ids, places=places, shows=shows) for inner in value]
    return PURGED if isinstance(value, str) and value not in ids and shows(value) else value


def _is_about(entry: dict[str, Any], ids: Collection[str], places: Collection[tuple[str, int]]) -> bool:
    named = any(isinstance(inner, str) and inner in ids for inner in entry.values())
    return named or (entry.get("source"), entry.get("line")) in places


def _blank(text: str) -> str:
    return PURGED if text else ""
