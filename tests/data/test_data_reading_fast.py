"""The fast way through orjson gives what the strict reader gives, or nothing."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.data.findings import Rejection
from tunewright.data.reading import fast_json
from tunewright.data.reading.fast_json import parse_exactly
from tunewright.data.reading.rows import inspect, read_rows
from tunewright.data.reading.strict_json import NonFinite, Parsed, SourceNumber, parse, plain

pytest.importorskip("orjson")

ROW = '{"conversation": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ok"}], "metadata": %s}'


def typed(value):
    """A value in which "1" and SourceNumber("1"), 1 and 1.0 differ."""
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}, list(value)
    if isinstance(value, list):
        return [typed(item) for item in value]
    return type(value).__name__, repr(value)


def comparable(value):
    """Metadata is compared as what becomes of it: plain values."""
    if isinstance(value, dict) and isinstance(value.get("metadata"), dict):
        value = {**value, "metadata": plain(value["metadata"])}
        value["metadata"] = typed(value["metadata"][0]), value["metadata"][1]
    return typed({key: item for key, item in value.items() if key != "metadata"}), value.get("metadata")


def check(data: bytes) -> bool:
    """Whether the fast way took the row; then it must be the strict result."""
    fast = parse_exactly(data)
    if fast is None:
        return False
    strict = parse(data.decode(), line=1)
    assert isinstance(strict, Parsed), (data, strict)
    assert strict.notes == fast.notes == ()
    assert comparable(fast.value) == comparable(strict.value), data
    return True


KEYS = st.one_of(
    st.sampled_from(["a", "b", "metadata", "role", 'x":', "\\", '"', ":", "", "ключ", "a:b"]), st.text(max_size=4)
)
TEXTS = st.one_of(
    st.text(max_size=12), st.sampled_from(['":', '\\":', ': "', '{"a": 1}', "\\", '"', ' ":', ":x", "\\\\"])
)
NUMBERS = st.one_of(st.integers(-(10**22), 10**22), st.integers(-3, 3), st.floats(), st.sampled_from([-0.0, 0.0]))
VALUES = st.recursive(
    st.one_of(TEXTS, TEXTS, NUMBERS, st.booleans(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)
STYLES = st.sampled_from(
    [
        {"separators": (",", ":")},
        {"separators": (", ", ": ")},
        {"separators": (",", " :")},
        {"separators": (" ,", "\t:\n")},
        {"indent": 1},
    ]
)


@settings(max_examples=600, deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=5), STYLES, st.booleans())
def test_documents_that_are_taken_are_read_the_same(document, style, is_ascii):
    check(json.dumps(document, ensure_ascii=is_ascii, **style).encode("utf-8", "surrogatepass"))


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(KEYS, VALUES), max_size=5), st.lists(st.tuples(KEYS, VALUES), max_size=4))
def test_no_key_that_stands_twice_gets_through(outer, inner):
    """Objects are spelled by hand, so that keys repeat."""

    def spell(pairs):
        return "{" + ",".join(f"{json.dumps(key)}:{json.dumps(value)}" for key, value in pairs) + "}"

    text = spell([*outer, ("nested", 0)]).replace('"nested":0', f'"nested":[{spell(inner)}]')
    repeats = len({key for key, _ in inner}) < len(inner) or len({"nested", *(k for k, _ in outer)}) < len(outer) + 1
    taken = check(text.encode())
    assert not (taken and repeats)


def test_mutated_rows_are_read_the_same_or_left_to_the_strict_reader(soak):
    """Half of the rows come out as JSON still, since digits and quotes are put in the place of others."""
    chance = random.Random(5)
    rows = [
        ROW % '{"score": 3.50, "n": [1, -0, 1e5]}',
        ROW % '{"a": {"b": 12345678901234567890}}',
        r'{"messages":[{"role":"user","content":"say \"a\":\\ 1"},{"role":"assistant","content":":x"}],"id":7,"w":-0}',
        '{"a":"\\ud83d\\ude00","b":[{"c":1,"d":2},{"c":1}],"metadata":{"c":NaN}}',
    ]
    signs = [
        b'"',
        b":",
        b",",
        b"\\",
        b" ",
        b"\t",
        b"1",
        b"-",
        b"e",
        b".",
        b"a",
        b"{",
        b"}",
        b"[",
        b"]",
        b"\xe4",
        b'\\"',
    ]
    taken = 0
    for _ in range(100_000 if soak else 8_000):
        data = bytearray(chance.choice(rows).encode())
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(data))
            data[at : at + chance.choice([0, 1, 1, 2])] = chance.choice(signs)
        taken += check(bytes(data))
    assert taken > 100


@pytest.mark.parametrize(
    ("text", "is_taken"),
    [
        (ROW % "{}", True),
        (ROW % '{"n": 3, "x": 0.95, "l": [1, 2]}', True),
        ('{"id":7,"messages":[{"role":"user","content":"a: \\"b\\": c"}]}', True),
        ('{"a":"\\ud83d\\ude00 \\n \\t"}', True),
        ('{"a":1,"a":2}', False),
        ('{"a":1,"\\u0061":2}', False),
        ('{"a":{"b":[{"c":1,"c":1}]}}', False),
        ('{"a":1,"a":2,"b":":x"}', False),  # a key lost, and a text that looks like a key
        ('{"a" :1,"b":":x"}', False),  # a key not counted, and a text that looks like a key
        ('{"a"\t:1,"b":":x"}', False),
        ('{"a"\n:1,"b":":x"}', False),
        ('{"a\\\\":1,"b":"\\":"}', False),  # a key that ends in a backslash
        ('{"a":3.50}', False),
        ('{"a":[0.5]}', False),
        ('{"a":[{"b":0.5},"x"]}', False),
        ('{"a":[{"b":"x","c":[2,{"d":0.5}]},1]}', False),
        ('{"a":[{"b":1},"x",[3],{"c":{"d":4}}]}', True),
        ('{"a":-0}', False),
        ('{"metadata":{"a":-0.0}}', False),
        ('{"metadata":{"a":12345678901234567890123}}', False),
        ('{"metadata":{"a":1e400}}', False),
        ('{"metadata":{"a":NaN}}', False),
        ('{"metadata":3.50}', False),
        ('{"a":"\\ud83d"}', False),
        ('{"a":1},', False),
        ('[{"a":1}]', False),
        ('\ufeff{"a":1}', False),
        ("[" * 50 + "]" * 50, False),
        ('{"a":' + "[" * 60 + "]" * 60 + "}", False),
    ],
)
def test_what_is_taken(text, is_taken):
    assert check(text.encode()) == is_taken


def test_numbers_keep_their_spelling_outside_metadata():
    value = parse_exactly(b'{"id":7,"a":[1,{"b":-20}],"metadata":{"n":7,"f":0.5}}').value
    assert type(value["id"]) is SourceNumber and value["id"] == "7"
    assert [type(value["a"][0]), value["a"][1]["b"]] == [SourceNumber, "-20"]
    assert value["metadata"] == {"n": 7, "f": 0.5}


def test_the_switch_turns_it_off(tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl"
    path.write_text(ROW % '{"n": 3}' + "\n" + ROW % '{"n": NaN}' + "\n" + '{"a":1,"a":1}\n')
    layout = inspect(path, max_chars=1000)

    def read(fast):
        return list(read_rows(path, source="rows", layout=layout, max_chars=1000, fast=fast))

    taken = read(True)
    monkeypatch.setattr(fast_json, "orjson", None)
    without_library = read(True)
    strict = read(False)
    assert without_library == strict
    assert type(taken[0].content.value["metadata"]["n"]) is int
    assert type(strict[0].content.value["metadata"]["n"]) is SourceNumber
    assert isinstance(strict[1].content.value["metadata"]["n"], NonFinite)
    assert [row.content.code for row in (taken[2], strict[2]) if isinstance(row.content, Rejection)] == ["DUP_KEY"] * 2
