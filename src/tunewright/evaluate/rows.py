"""Which rows a metric applies to, by their metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def metadata_value(metadata: Mapping[str, Any], key: str) -> str | None:
    """The text at `key` (`metadata.task`, `metadata.customer.tier`); None where a row has nothing there."""
    path = key.removeprefix("metadata.")
    value: Any = metadata.get(path)
    if value is None:
        value = metadata
        for part in path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None or isinstance(value, Mapping) else str(value)


def matches(metadata: Mapping[str, Any], where: Mapping[str, str]) -> bool:
    """Whether every key of `where` has its value in the row's metadata."""
    return all(metadata_value(metadata, key) == wanted for key, wanted in where.items())
