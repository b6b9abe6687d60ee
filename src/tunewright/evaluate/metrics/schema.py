"""Checking a JSON value against a JSON schema (draft 2020-12, the keywords below).

Unknown keywords are refused: a rule that is not checked would make wrong answers right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: not isinstance(value, bool) and (isinstance(value, int) or _is_whole(value)),
}
_SILENT = {"title", "description", "default", "examples", "$schema", "$id", "$defs", "definitions", "$comment",
           "format", "deprecated", "readOnly", "writeOnly"}  # fmt: skip
"""Keywords that say something and demand nothing (`format` is a note in draft 2020-12)."""
_MANY = ("anyOf", "oneOf", "allOf")
_ONE = ("items", "additionalProperties", "not", "contains", "propertyNames")
_NAMED = ("properties", "patternProperties", "$defs", "definitions")
_NUMBERS = ("multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength",
            "minItems", "maxItems", "minProperties", "maxProperties")  # fmt: skip
DEEPEST = 60


def _is_whole(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer()


def unknown_keywords(schema: Any, place: str = "schema") -> list[str]:
    """Sentences about what in a schema cannot be checked; empty for a good one."""
    if place.count(".") > DEEPEST:
        return [f"{place[:60]}...: nested deeper than {DEEPEST}"]
    if isinstance(schema, bool):
        return []
    if not isinstance(schema, Mapping):
        return [f"{place}: a schema is an object or true or false"]
    faults = [
        f"{place}: the keyword '{key}' is not checked here"
        for key in schema
        if key not in _CHECKS and key not in _SILENT and key != "$ref"
    ]
    wanted = schema.get("type", [])
    faults += [
        f"{place}: there is no type '{name}'"
        for name in (wanted if isinstance(wanted, list) else [wanted])
        if not isinstance(name, str) or name not in _TYPES
    ]
    faults += [f"{place}.{key}: {words}" for key, words in _misshapen(schema)]
    if faults:
        return faults
    inner = [(f"{place}.{key}", schema[key]) for key in _ONE if key in schema]
    inner += [(f"{place}.{key}.{i}", part) for key in _MANY for i, part in enumerate(schema.get(key, ()))]
    inner += [(f"{place}.{key}.{name}", part) for key in _NAMED for name, part in schema.get(key, {}).items()]
    return [*faults, *(fault for where, part in inner for fault in unknown_keywords(part, where))]


def _misshapen(schema: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Keywords whose value is not of the kind they take."""
    for key, value in schema.items():
        if key in (*_NAMED, "patternProperties") and not isinstance(value, Mapping):
            yield key, "must be an object"
        elif key in (*_MANY, "enum", "required") and not isinstance(value, list):
            yield key, "must be a list"
        elif key in _NUMBERS and not _TYPES["number"](value):
            yield key, "must be a number"
        elif key == "$ref" and not isinstance(value, str):
            yield key, "must be a text"
        patterns = [value] if key == "pattern" else list(value) if key == "patternProperties" else []
        for pattern in patterns:
            try:
                re.compile(pattern)
            except (re.error, TypeError):
                yield key, f"{pattern!r} is no regular expression"


def faults(value: Any, schema: Any, *, root: Any = None, place: str = "$", depth: int = 0) -> Iterator[str]:
    """What is wrong with a value, one sentence each; nothing where it follows the schema."""
    root = schema if root is None else root
    if depth > DEEPEST:
        yield f"{place}: nested deeper than {DEEPEST}"
    elif isinstance(schema, bool):
        if not schema:
            yield f"{place}: nothing may stand here"
    else:
        if "$ref" in schema:
            yield from faults(value, _referred(schema["$ref"], root), root=root, place=place, depth=depth + 1)
        for keyword, wanted in schema.items():
            if check := _CHECKS.get(keyword):
                yield from check(_At(value, schema, root, place, depth), wanted)


class _At:
    """A value with its schema, and where it stands."""

    __slots__ = ("depth", "place", "root", "schema", "value")

    def __init__(self, value: Any, schema: Mapping[str, Any], root: Any, place: str, depth: int) -> None:
        self.value, self.schema, self.root, self.place, self.depth = value, schema, root, place, depth

    def inside(self, value: Any, schema: Any, place: str = "") -> Iterator[str]:
        return faults(value, schema, root=self.root, place=self.place + place, depth=self.depth + 1)

    def follows(self, schema: Any) -> bool:
        return next(self.inside(self.value, schema), None) is None


def _referred(reference: str, root: Any) -> Any:
    """A schema inside this one: #/$defs/name. Anything else is followed by no value."""
    found = root
    for part in reference.removeprefix("#").strip("/").split("/") if reference.startswith("#") else ["?"]:
        if part:
            name = part.replace("~1", "/").replace("~0", "~")
            found = found.get(name, False) if isinstance(found, Mapping) else False
    return found


def same(first: Any, second: Any) -> bool:
    """Equality of JSON values: 1 equals 1.0, true does not equal 1."""
    if isinstance(first, bool) or isinstance(second, bool):
        return first is second
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    return (type(first) is type(second) and first == second) or (_TYPES["number"](first) and first == second)


def _type(at: _At, wanted: Any) -> Iterator[str]:
    names = wanted if isinstance(wanted, list) else [wanted]
    if not any(name in _TYPES and _TYPES[name](at.value) for name in names):
        yield f"{at.place}: must be {' or '.join(names)}"


def _enum(at: _At, wanted: Any) -> Iterator[str]:
    if not any(same(at.value, one) for one in wanted):
        yield f"{at.place}: is none of the allowed values"


def _const(at: _At, wanted: Any) -> Iterator[str]:
    if not same(at.value, wanted):
        yield f"{at.place}: is not the one allowed value"


def _limit(kind: str, size: Callable[[Any], Any], holds: Callable[[Any, Any], bool], words: str) -> Any:
    def check(at: _At, wanted: Any) -> Iterator[str]:
        if _TYPES[kind](at.value) and not holds(size(at.value), wanted):
            yield f"{at.place}: must {words} {wanted}"

    return check


def _multiple(at: _At, wanted: Any) -> Iterator[str]:
    if _TYPES["number"](at.value):
        from fractions import Fraction

        if Fraction(str(at.value)) % Fraction(str(wanted)):
            yield f"{at.place}: must be a multiple of {wanted}"


def _pattern(at: _At, wanted: Any) -> Iterator[str]:
    if isinstance(at.value, str) and not re.search(wanted, at.value):
        yield f"{at.place}: does not match {wanted}"


def _unique(at: _At, wanted: Any) -> Iterator[str]:
    items = at.value if isinstance(at.value, list) and wanted else []
    if any(same(one, other) for index, one in enumerate(items) for other in items[:index]):
        yield f"{at.place}: an item stands twice"


def _items(at: _At, wanted: Any) -> Iterator[str]:
    for index, item in enumerate(at.value if isinstance(at.value, list) else []):
        yield from at.inside(item, wanted, f"[{index}]")


def _contains(at: _At, wanted: Any) -> Iterator[str]:
    if isinstance(at.value, list) and all(next(at.inside(item, wanted), None) is not None for item in at.value):
        yield f"{at.place}: no item is as wanted"


def _required(at: _At, wanted: Any) -> Iterator[str]:
    if isinstance(at.value, dict):
        yield from (f"{at.place}: the key '{name}' is missing" for name in wanted if name not in at.value)


def _properties(at: _At, wanted: Any) -> Iterator[str]:
    if isinstance(at.value, dict):
        for name, schema in wanted.items():
            if name in at.value:
                yield from at.inside(at.value[name], schema, f".{name}")


def _pattern_properties(at: _At, wanted: Any) -> Iterator[str]:
    for name, value in at.value.items() if isinstance(at.value, dict) else ():
        for pattern, schema in wanted.items():
            if re.search(pattern, name):
                yield from at.inside(value, schema, f".{name}")


def _additional(at: _At, wanted: Any) -> Iterator[str]:
    known, patterns = at.schema.get("properties", {}), at.schema.get("patternProperties", {})
    for name, value in at.value.items() if isinstance(at.value, dict) else ():
        if name not in known and not any(re.search(pattern, name) for pattern in patterns):
            if wanted is False:
                yield f"{at.place}: the key '{name}' is not allowed"
            else:
                yield from at.inside(value, wanted, f".{name}")


def _names(at: _At, wanted: Any) -> Iterator[str]:
    for name in at.value if isinstance(at.value, dict) else ():
        yield from at.inside(name, wanted, f".{name}")


def _any_of(at: _At, wanted: Any) -> Iterator[str]:
    if not any(at.follows(schema) for schema in wanted):
        yield f"{at.place}: follows none of the alternatives"


def _one_of(at: _At, wanted: Any) -> Iterator[str]:
    if (count := sum(at.follows(schema) for schema in wanted)) != 1:
        yield f"{at.place}: follows {count} of the alternatives, not one"


def _all_of(at: _At, wanted: Any) -> Iterator[str]:
    for schema in wanted:
        yield from at.inside(at.value, schema)


def _not(at: _At, wanted: Any) -> Iterator[str]:
    if at.follows(wanted):
        yield f"{at.place}: is what it must not be"


_CHECKS: dict[str, Callable[[_At, Any], Iterator[str]]] = {
    "type": _type, "enum": _enum, "const": _const, "multipleOf": _multiple, "pattern": _pattern, "items": _items,
    "uniqueItems": _unique, "contains": _contains, "required": _required, "properties": _properties,
    "patternProperties": _pattern_properties, "additionalProperties": _additional, "propertyNames": _names,
    "anyOf": _any_of, "oneOf": _one_of, "allOf": _all_of, "not": _not,
    "minimum": _limit("number", lambda v: v, lambda a, b: a >= b, "be at least"),
    "maximum": _limit("number", lambda v: v, lambda a, b: a <= b, "be at most"),
    "exclusiveMinimum": _limit("number", lambda v: v, lambda a, b: a > b, "be more than"),
    "exclusiveMaximum": _limit("number", lambda v: v, lambda a, b: a < b, "be less than"),
    "minLength": _limit("string", len, lambda a, b: a >= b, "have a length of at least"),
    "maxLength": _limit("string", len, lambda a, b: a <= b, "have a length of at most"),
    "minItems": _limit("array", len, lambda a, b: a >= b, "have items, at least"),
    "maxItems": _limit("array", len, lambda a, b: a <= b, "have items, at most"),
    "minProperties": _limit("object", len, lambda a, b: a >= b, "have keys, at least"),
    "maxProperties": _limit("object", len, lambda a, b: a <= b, "have keys, at most"),
}  # fmt: skip
