"""Which rows a metric applies to, by their metadata, and which of many are asked."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from tunewright.core.scoring import Sample

Row = TypeVar("Row")


def metadata_at(metadata: Mapping[str, Any], key: str) -> Any:
    """Whatever stands at `key` (`metadata.task`, `metadata.customer.tier`), None where nothing does."""
    path = key.removeprefix("metadata.")
    if metadata.get(path) is not None:
        return metadata[path]
    value: Any = metadata
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def metadata_value(metadata: Mapping[str, Any], key: str) -> str | None:
    """What stands at `key` as a text; None where nothing or an object does."""
    value = metadata_at(metadata, key)
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None or isinstance(value, Mapping) else str(value)


def matches(metadata: Mapping[str, Any], where: Mapping[str, str]) -> bool:
    """Whether every key of `where` has its value in the row's metadata."""
    return all(metadata_value(metadata, key) == wanted for key, wanted in where.items())


def applying(samples: Sequence[Sample], applies: Callable[[Mapping[str, Any]], bool]) -> list[Sample]:
    """The samples that a metric scores, in their order. applies: the metric's own."""
    return [sample for sample in samples if applies(sample.metadata)]


def empty_answers(samples: Sequence[Sample]) -> int:
    """How many predictions say nothing."""
    return sum(not sample.prediction.strip() for sample in samples)


def drawn(rows: Sequence[Row], most: int, *, seed: int) -> list[Row]:
    """At most `most` of the rows, in their order; the same ones for the same seed."""
    if len(rows) <= most:
        return list(rows)
    return [rows[index] for index in sorted(random.Random(seed).sample(range(len(rows)), most))]  # noqa: S311 (no secret)
