"""JSON as RFC 8259 has it, and nothing more: no key twice, no NaN, numbers in the spelling of the source."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

from tunewright.data.findings import Note, Rejection, excerpt

_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_LONGEST_INTEGER = 4000
"""Digits; Python refuses to convert more than 4300 by default."""


class SourceNumber(str):
    """A number as the source spells it: "3.50" stays "3.50" where it becomes text."""

    __slots__ = ()


class NonFinite(str):
    """NaN, Infinity or -Infinity, which are no JSON."""

    __slots__ = ()


class DuplicateKeyError(ValueError):
    """One key stands twice in an object."""


@dataclass(slots=True)
class Parsed:
    """value: dicts, lists, str, bool, None, SourceNumber and NonFinite; numbers inside a row's metadata may be int and
    float already. Nothing changes one; it is not frozen because there is one a row."""

    value: Any
    notes: tuple[Note, ...] = ()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise DuplicateKeyError(next(name for name in names if names.count(name) > 1))
    return found


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=SourceNumber, parse_int=SourceNumber, parse_constant=NonFinite
)


def parse(text: str, *, line: int) -> Parsed | Rejection:
    """Reads one JSON document. `line` is the line it starts on, for the reason.

    A comma after the object is accepted (repaired); lone surrogates are removed (repaired).
    """
    notes: tuple[Note, ...] = ()
    try:
        value, comma = _decode(text)
        if comma:
            notes += (Note("JSON_SYNTAX", "repaired", "comma after the object left out", excerpt(text, len(text))),)
        if _SURROGATE_ESCAPE.search(text):
            value, more = without_surrogates(value, text)
            notes += more
    except DuplicateKeyError as error:
        key = str(error)
        return Rejection("DUP_KEY", f"the key '{excerpt(key)}' stands twice in an object", excerpt(text))
    except RecursionError:
        return Rejection("JSON_SYNTAX", "the document is nested too deep", excerpt(text))
    except json.JSONDecodeError as error:
        return _syntax(text, error, line)
    return Parsed(value, notes)


def _decode(text: str) -> tuple[Any, bool]:
    try:
        return _DECODER.decode(text), False
    except json.JSONDecodeError:
        bare = text.rstrip().removesuffix(",").rstrip()
        if not bare.endswith("}") or len(bare) == len(text.rstrip()):
            raise
        return _DECODER.decode(bare), True


def _syntax(text: str, error: json.JSONDecodeError, line: int) -> Rejection:
    bare = text.lstrip()
    if bare.startswith(("//", "#", "/*")):
        return Rejection("JSON_SYNTAX", f"line {line} is a comment, which JSON does not have", excerpt(text))
    place = f"line {line + error.lineno - 1}, column {error.colno}"
    cut = " (the row is cut off)" if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated") else ""
    return Rejection("JSON_SYNTAX", f"no valid JSON at {place}: {error.msg}{cut}", excerpt(text, error.pos))


def without_surrogates(value: Any, text: str) -> tuple[Any, tuple[Note, ...]]:
    """The value without half surrogate pairs, which no text may hold. text: where it was read from."""
    value, removed = _without_surrogates(value)
    if not removed:
        return value, ()
    return value, (Note("SURROGATE", "repaired", f"{removed} lone surrogate(s) removed", excerpt(text)),)


def _without_surrogates(value: Any) -> tuple[Any, int]:
    if isinstance(value, str):
        return _SURROGATE.subn("", value) if type(value) is str else (value, 0)
    if isinstance(value, list):
        items = [_without_surrogates(item) for item in value]
        return [item for item, _ in items], sum(count for _, count in items)
    if isinstance(value, dict):
        pairs = [(_without_surrogates(key), _without_surrogates(item)) for key, item in value.items()]
        total = sum(key[1] + item[1] for key, item in pairs)
        return _object([(key[0], item[0]) for key, item in pairs]), total
    return value, 0


def plain(value: Any) -> tuple[Any, int]:
    """(ordinary Python values, number of non-finite numbers that became None)."""
    if isinstance(value, NonFinite):
        return None, 1
    if isinstance(value, SourceNumber):
        return _number(value)
    if isinstance(value, list):
        items = [plain(item) for item in value]
        return [item for item, _ in items], sum(count for _, count in items)
    if isinstance(value, dict):
        found = {key: plain(item) for key, item in value.items()}
        return {key: item for key, (item, _) in found.items()}, sum(count for _, count in found.values())
    return value, 0


def _number(text: SourceNumber) -> tuple[int | float | str | None, int]:
    if text.lstrip("-").isdigit():
        return (int(text), 0) if len(text) <= _LONGEST_INTEGER else (str(text), 0)
    number = float(text)
    return (number, 0) if math.isfinite(number) else (None, 1)
