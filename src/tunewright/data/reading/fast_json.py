"""JSON through orjson, where it is proven to read a row exactly as the strict reader would.

orjson takes the last of two equal keys, forgets how a number was spelled and turns an integer of more than 64 bits
into a float. A row is taken only when each of these is excluded; else None, and the strict reader decides.
"""

from __future__ import annotations

from typing import Any

from tunewright.data.reading.strict_json import Parsed, SourceNumber

try:
    import orjson
except ImportError:  # an optional speed-up: every row then takes the strict way
    orjson = None  # type: ignore[assignment]

_UNPROVEN = -(1 << 60)
"""Added to a count of keys, it makes every comparison fail."""
_SAFE_NUMBER = 10**18
"""orjson keeps integers to 64 bits; what is larger may have been one of more."""
_BREAKS = b"\t\r\n"
_DEEPEST = 40
"""The strict reader gives up near Python's recursion limit, orjson at 1024 levels: deep rows are not compared."""


def parse_exactly(data: bytes) -> Parsed | None:
    """The object in `data` (UTF-8) as the strict reader has it, except that numbers inside a top-level `metadata`
    object are int and float already; None where that is not proven.

    The proof of unequal keys: orjson drops the first of two, so that the parsed value has fewer keys than the text
    has colons behind keys. A row whose colons are as many as its parsed keys has dropped nothing. One with more, in
    its texts, is looked at by `_pairs`.
    """
    if orjson is None:
        return None
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    if type(value) is not dict:
        return None
    keys = _plain_keys(value)
    if keys < 0:
        keys = _row_keys(value, data)
    return Parsed(value) if keys == data.count(b":") or keys == _pairs(data) else None


def _pairs(data: bytes) -> int:
    """Keys in the text of an object, or more: each is followed by `":`, since a row with white space before a colon is
    not taken. Other places that look so (a text that begins with a colon) only add to the count; a quote behind a
    backslash is subtracted, where no backslash stands before it. -1 where nobody knows."""
    if b" :" in data and (b'" :' in data or b"  :" in data):
        return -1
    if len(data.translate(None, _BREAKS)) != len(data) and _has_break_before_colon(data):
        return -1
    pairs = data.count(b'":')
    if b"\\" in data:
        if b'\\\\"' in data:
            return -1
        pairs -= data.count(b'\\":')
    return pairs


def _has_break_before_colon(data: bytes) -> bool:
    return b"\t:" in data or b"\r:" in data or b"\n:" in data


def _plain_keys(row: dict[str, Any]) -> int:
    """`_row_keys` of a row of texts, lists of objects of texts, and metadata of texts and numbers, in which there is
    nothing to change: nearly all. -1 for any other."""
    total = len(row)
    for key, value in row.items():
        kind = type(value)
        if kind is list:
            for turn in value:
                if type(turn) is not dict:
                    return -1
                total += len(turn)
                for text in turn.values():
                    if type(text) is not str:
                        return -1
        elif kind is dict and key == "metadata":
            total += len(value)
            for item in value.values():
                if type(item) is not str and (type(item) is not int or not -_SAFE_NUMBER < item < _SAFE_NUMBER):
                    return -1
        elif kind is not str:
            return -1
    return total


def _row_keys(row: dict[str, Any], data: bytes) -> int:
    """Number of keys in all objects of the row. Integers become SourceNumber, which their value spells."""
    total = len(row)
    for key, value in row.items():
        kind = type(value)
        if kind is list:
            total += _turn_keys(value, data)
        elif kind is dict and key == "metadata":
            total += _metadata_keys(value)
        elif kind is not str:
            total += _keys_in(row, key, data)
    return total


def _turn_keys(turns: list[Any], data: bytes) -> int:
    """The same for a list. Objects of nothing but texts, as turns are, need no call for each value."""
    total = 0
    for place, turn in enumerate(turns):
        if type(turn) is not dict:
            total += _keys_in(turns, place, data)
            continue
        total += len(turn)
        for value in turn.values():
            if type(value) is not str:
                total += sum(_keys_in(turn, name, data) for name in turn)
                break
    return total


def _keys_in(holder: Any, place: Any, data: bytes, depth: int = _DEEPEST) -> int:
    """Number of keys in what stands at `place` of an object or a list; an integer there becomes a SourceNumber."""
    value = holder[place]
    kind = type(value)
    if kind is int or kind is float:
        source = _spelled(value, data)
        if source is None:
            return _UNPROVEN
        holder[place] = source
        return 0
    if kind is not dict and kind is not list:
        return 0
    if not depth:
        return _UNPROVEN
    if kind is dict:
        return len(value) + sum(_keys_in(value, name, data, depth - 1) for name in value)
    return sum(_keys_in(value, index, data, depth - 1) for index in range(len(value)))


def _spelled(value: float, data: bytes) -> SourceNumber | None:
    """An integer has one spelling in JSON, 0 apart, which may be written -0; a float has many."""
    if type(value) is float or not -_SAFE_NUMBER < value < _SAFE_NUMBER or (not value and b"-0" in data):
        return None
    return SourceNumber(value)


def _metadata_keys(value: Any, depth: int = _DEEPEST) -> int:
    """The same for metadata, where a number is only its value: 3.50 is 3.5. Excluded are those that orjson rounds."""
    kind = type(value)
    if kind is dict or kind is list:
        if not depth:
            return _UNPROVEN
        total = len(value) if kind is dict else 0
        for item in value.values() if kind is dict else value:
            if type(item) is not str:
                total += _metadata_keys(item, depth - 1)
        return total
    if kind is int:
        return 0 if -_SAFE_NUMBER < value < _SAFE_NUMBER else _UNPROVEN
    return 0 if kind is not float or (value and -_SAFE_NUMBER < value < _SAFE_NUMBER) else _UNPROVEN
