"""JSON in answers: the whole answer, a Markdown code block, or the first object among words."""

from __future__ import annotations

import json
import re
from typing import Any

_FENCE = re.compile(r"\s*```(?:json|JSON)?[ \t]*\n(.*?)\n?\s*```\s*", re.DOTALL)
NOTHING = object()
"""What `strict_json` gives for a text that is no JSON: None is JSON's null."""


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _once(items: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in items:
        if key in found:
            raise ValueError(f"the key '{key}' stands twice")
        found[key] = value
    return found


def loads(text: str) -> Any:
    """The value of a JSON text. Raises ValueError for what JSON does not have (NaN), for a key that stands twice, and
    for one nested too deeply."""
    try:
        return json.loads(text, parse_constant=_refuse, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("this is nested too deeply") from None


def strict_json(text: str, *, fenced: bool = False) -> Any:
    """The value of a whole text, NOTHING where it is no JSON (NaN and a key that stands twice are none). fenced: a
    Markdown code block around it is taken off."""
    if fenced and (block := _FENCE.fullmatch(text)):
        text = block[1]
    try:
        return loads(text)
    except ValueError:
        return NOTHING


def object_in(text: str) -> dict[str, Any] | None:
    """The first JSON object of a text, None without one."""
    whole = strict_json(text, fenced=True)
    if isinstance(whole, dict):
        return whole
    decoder = json.JSONDecoder(parse_constant=_refuse, object_pairs_hook=_once)
    for start in range(len(text)):
        if text[start] == "{":
            try:
                found, _ = decoder.raw_decode(text, start)
            except (ValueError, RecursionError):
                continue
            return found if isinstance(found, dict) else None
    return None
