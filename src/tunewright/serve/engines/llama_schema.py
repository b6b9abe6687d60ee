"""Which JSON schemas llama.cpp enforces whole. Its converter to grammars (common/json-schema-to-grammar.cpp) leaves out
what it does not know, and siblings of `$ref`, `anyOf`, `enum` and `const`, without a word; here these are found."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_NOTES = {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment", "$schema"}
_INTEGER = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
_KEYS = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems", "maxItems"},
    "string": {"minLength", "maxLength"},
    "integer": _INTEGER,
    "number": set[str](),
    "boolean": set[str](),
    "null": set[str](),
}
_PYTHON = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_ ]+")
_INT64 = 2**63
_DEFINITIONS = ("$defs", "definitions")
Found = tuple[tuple[str, ...], str]


def unenforced(schema: Any) -> Found | None:
    """(place, what) of the first thing in a schema that llama.cpp would not enforce; None for none."""
    if isinstance(schema, dict):
        for key in _DEFINITIONS:
            named = schema.get(key)
            for name, part in named.items() if isinstance(named, dict) else ():
                if found := _first(part, (key, name)):
                    return found
        schema = {key: value for key, value in schema.items() if key not in _DEFINITIONS}
    return _first(schema, ())


def _first(schema: Any, place: tuple[str, ...]) -> Found | None:
    return next(_all(schema, place), None)


def _all(schema: Any, place: tuple[str, ...]) -> Iterator[Found]:
    """Everything in one part that is not enforced."""
    if not isinstance(schema, dict):
        yield place, "a schema that is no object"
        return
    keys = set(schema) - _NOTES
    for alone, beside in (("$ref", set()), ("anyOf", set()), ("const", {"type"}), ("enum", {"type"})):
        if alone in keys:
            yield from ((place, f"'{key}' beside '{alone}'") for key in sorted(keys - {alone} - beside))
            yield from _chosen(schema, alone, place)
            return
    types = schema.get("type")
    kinds = types if isinstance(types, list) else [types] if types is not None else []
    if not kinds and keys:
        yield place, f"'{min(keys)}' without 'type'"
    for kind in kinds:
        if kind not in _KEYS:
            yield place, f"the type {kind!r}"
    known = {"type"}.union(*(_KEYS.get(kind, ()) for kind in kinds))
    yield from ((place, f"'{key}'") for key in sorted(keys - known))
    yield from _values(schema, place)


def _chosen(schema: dict[str, Any], key: str, place: tuple[str, ...]) -> Iterator[Found]:
    """Inside one of the keywords that stand alone."""
    value = schema[key]
    if key == "$ref" and not (isinstance(value, str) and value.startswith("#/")):
        yield place, "a '$ref' that does not begin with '#/'"
    elif key == "anyOf":
        for index, part in enumerate(value if isinstance(value, list) else ()):
            yield from _all(part, (*place, f"anyOf[{index}]"))
    elif key in ("enum", "const") and "type" in schema:
        wanted = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        given = value if key == "enum" and isinstance(value, list) else [value]
        if not all(any(_is(one, kind) for kind in wanted) for one in given):
            yield place, f"a value of '{key}' that is not of the 'type'"


def _values(schema: dict[str, Any], place: tuple[str, ...]) -> Iterator[Found]:
    """What the values of known keywords ask."""
    properties = schema.get("properties")
    named = properties if isinstance(properties, dict) else {}
    for name in schema.get("required") or ():
        if name not in named:
            yield place, f"the required '{name}', which is not in 'properties'"
    for name, part in named.items():
        yield from _all(part, (*place, "properties", name))
    others = schema.get("additionalProperties", False)
    if others is not False and not all(_PLAIN_NAME.fullmatch(name) for name in named):
        yield place, "'additionalProperties' beside names with other letters than A-Z, a-z, 0-9 and _"
    if isinstance(others, dict):
        yield from _all(others, (*place, "additionalProperties"))
    if "items" in schema:
        yield from _all(schema["items"], (*place, "items"))
    elif schema.keys() & {"minItems", "maxItems"}:
        yield place, "a number of items without 'items'"
    for low, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if low in schema and exclusive in schema:
            yield place, f"'{exclusive}' beside '{low}'"
    for key in sorted(_INTEGER & schema.keys()):
        if not isinstance(schema[key], int) or abs(schema[key]) >= _INT64:
            yield place, f"a '{key}' that is no integer of 64 bits"


def _is(value: Any, kind: Any) -> bool:
    """Whether a JSON value is of a JSON type."""
    if kind in ("integer", "number") and not isinstance(value, bool):
        return isinstance(value, int) or (isinstance(value, float) and (kind == "number" or value.is_integer()))
    expected = _PYTHON.get(kind)
    return expected is not None and type(value) is expected
