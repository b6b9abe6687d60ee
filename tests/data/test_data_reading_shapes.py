"""Objects over several lines, single objects, arrays that are cut: each row by itself."""

from __future__ import annotations

import json
import pickle

import pytest

from tunewright.core.errors import ArtifactError, ConfigError
from tunewright.data.findings import Place, Rejection
from tunewright.data.reading.records import parse_record, read_records
from tunewright.data.reading.rows import inspect, read_rows


def codes(row):
    """The codes of a row; that of a rejection in capitals as it is, notes behind it."""
    if isinstance(row.content, Rejection):
        return [row.content.code]
    return [note.code for note in row.content.notes]


def pretty(value, **style):
    return json.dumps(value, ensure_ascii=False, indent=2, **style)


OBJECTS = [{"a": "x]},{", "b": {"c": ["1", "2"]}}, {"a": "余"}, {"a": 'q"\\', "b": []}]


@pytest.mark.parametrize("between", ["\n", "\n\n", ",\n", "\r\n"])
def test_objects_over_several_lines_are_rows(read_file, between):
    data = between.join(pretty(value) for value in OBJECTS) + between
    layout, rows = read_file(data)
    assert layout.shape == "objects"
    assert [row.content.value for row in rows] == OBJECTS
    starts = [data.index(pretty(value)) for value in OBJECTS]
    assert [row.place for row in rows] == [
        Place("input.jsonl", data[:start].count("\n") + 1, len(data[:start].encode())) for start in starts
    ]
    lines = [pretty(value).count("\n") + 1 for value in OBJECTS]
    reasons = [note.reason for row in rows for note in row.content.notes if note.code == "MULTILINE"]
    assert reasons == [f"an object over {count} lines is read as one row" for count in lines]
    commas = ["JSON_SYNTAX"] if between.startswith(",") else []
    assert [codes(row) for row in rows] == [["MULTILINE", *commas]] * 3
    assert json.loads(rows[1].raw.rstrip().rstrip(",")) == OBJECTS[1]


@pytest.mark.parametrize("encoding", ["utf-16", "gb18030"])
def test_objects_over_several_lines_in_other_encodings(read_file, encoding):
    # 乗 is 81 5C in GB18030: a backslash's byte inside a character; 亄 is 81 7B, a bracket's
    values = [
        {"question": "如何更换银行卡的密码乗", "x": "请在设置页面里修改亄"},
        {"question": "第二行，请问怎么办", "x": "好的"},
    ]
    data = "\n".join(pretty(value) for value in values).encode(encoding)
    layout, rows = read_file(data)
    assert layout.shape == "objects"
    assert [row.content.value for row in rows] == values
    assert [codes(row) for row in rows] == [["ENCODING", "MULTILINE"]] * 2
    assert rows[1].place.byte_offset == len((pretty(values[0]) + "\n").encode(encoding))


def test_one_object_is_one_row(read_file):
    layout, (row,) = read_file(pretty({"messages": [{"role": "user", "content": "hi"}]}), "row.json")
    assert (layout.shape, row.content.value["messages"][0]["content"], codes(row)) == ("objects", "hi", ["MULTILINE"])
    layout, (row,) = read_file('{"a": "1"}', "line.json")
    assert (layout.shape, codes(row)) == ("jsonl", [])


def test_one_broken_object_is_one_row_and_changes_no_other(read_file):
    broken = '{\n  "a": "1",\n  "b": [\n    "2",\n  ],\n}'
    cut = '{\n  "a": {\n    "b": "1"'
    data = "\n".join([pretty(OBJECTS[0]), broken, pretty(OBJECTS[1]), cut, pretty(OBJECTS[2]), '{"line": "too"}'])
    _, rows = read_file(data)
    assert [codes(row) for row in rows] == [
        ["MULTILINE"],
        ["JSON_SYNTAX"],
        ["MULTILINE"],
        ["JSON_SYNTAX"],
        ["MULTILINE"],
        [],
    ]
    assert [row.raw.rstrip() for row in (rows[1], rows[3])] == [broken, cut]
    line = data[: data.index("  ],\n}")].count("\n") + 1
    assert f"line {line}, column 3" in rows[1].content.reason  # the bracket behind the comma
    assert rows[5].content.value == {"line": "too"}
    assert sum(row.size for row in rows) == len(data.encode())


def test_a_multi_line_object_among_lines(read_file):
    data = '{"a": "1"}\n' + pretty(OBJECTS[0]) + '\n{"a": "2"}\n'
    layout, rows = read_file(data)
    assert layout.shape == "jsonl"
    assert [codes(row) for row in rows] == [[], ["MULTILINE"], []]


@pytest.mark.parametrize(
    "cut",
    [
        '{"messages": [',
        '{"a": {"b": 1},',
        '{"messages": [{"role": "user", "cont',
        '{"a": "1", "b":',
        "{",
        '{"a": [1, 2',
    ],
)
def test_a_cut_line_swallows_no_other(read_file, cut):
    good = [f'{{"messages": [{{"role": "user", "content": "{n}"}}]}}' for n in range(4)]
    _, rows = read_file("\n".join([good[0], cut, *good[1:]]))
    assert [codes(row) for row in rows] == [[], ["JSON_SYNTAX"], [], [], []]
    assert [row.place.line for row in rows] == [1, 2, 3, 4, 5]
    assert rows[1].raw == cut


def test_a_cut_last_line_of_every_length(read_file):
    whole = pretty({"a": ["1", {"b": "2"}]})
    line = '{"a": ["1", {"b": "2"}]}'
    for text in (whole, line):
        for end in range(1, len(text) - 1):
            _, rows = read_file(line + "\n" + text[:end])
            assert codes(rows[0]) == []
            assert len(rows) > 1
            for row in rows[1:]:  # a line of the cut object may be a text by itself, but never an object
                assert codes(row) == ["JSON_SYNTAX"] or isinstance(row.content.value, str)


def test_an_object_over_the_limit_is_counted_and_not_held(read_file):
    big = pretty({"a": "1", "b": ["x" * 50] * 10})
    _, rows = read_file("\n".join([pretty(OBJECTS[0]), big, pretty(OBJECTS[1])]), max_chars=300)
    assert [codes(row) for row in rows] == [["MULTILINE"], ["TOO_LONG"], ["MULTILINE"]]
    assert (rows[1].content.reason, rows[1].raw) == (f"{len(big)} characters, limit 300", None)


def test_bad_bytes_in_a_multi_line_object(read_file):
    bad = pretty({"a": "1", "b": "2"}).encode().replace(b"2", b"\xff")
    _, rows = read_file(b"\n".join([pretty(OBJECTS[0]).encode(), bad, pretty(OBJECTS[1]).encode()]))
    assert [codes(row) for row in rows] == [["MULTILINE"], ["BAD_UTF8"], ["MULTILINE"]]


def test_an_array_that_does_not_end_says_so(read_file):
    _, rows = read_file('[{"a": "1"},\n {"a": "2"}')
    assert [codes(row) for row in rows] == [["ARRAY"], ["ARRAY"]]
    assert [("does not end" in row.content.notes[0].reason) for row in rows] == [False, True]
    _, rows = read_file('[{"a": "1"},\n {"a": "2"}]\n')
    assert not any("does not end" in row.content.notes[0].reason for row in rows)
    _, rows = read_file('[{"a": "1"},\n {"a": "2')
    assert [codes(row) for row in rows] == [["ARRAY"], ["JSON_SYNTAX"]]


def test_lines_that_are_arrays_are_rows_by_themselves(read_file):
    layout, rows = read_file('[{"a": "1"}, {"a": "2"}]\n[{"a": "3"}]\n')
    assert layout.shape == "jsonl"
    assert [row.content.value for row in rows] == [[{"a": "1"}, {"a": "2"}], [{"a": "3"}]]


@pytest.mark.parametrize("name", ["notes.txt", "log", "README.md"])
def test_plain_text_is_refused_in_one_sentence(read_file, name):
    with pytest.raises(ConfigError, match="plain text without a JSON row or a table") as caught:
        read_file("[07:35] <ann> how do I mount it?\n=== bob entered the room.\n", name)
    assert ".csv or .tsv" in caught.value.fix
    assert read_file('# comment\n{"a": "1"}\n', name)[1][1].content.value == {"a": "1"}


def test_utf16_without_its_mark_is_refused(read_file):
    with pytest.raises(ArtifactError, match="UTF-16 without a byte order mark"):
        read_file('{"a": "1"}\n'.encode("utf-16-le"))


def test_zeros_in_one_row_are_no_utf16(read_file):
    _, rows = read_file(b'\x00\x00\x00\x00\x00\x00\n{"a": "1"}\n')
    assert [codes(row) for row in rows] == [["JSON_SYNTAX"], []]


def test_records_travel_to_workers_and_give_the_same_rows(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"a": "1"}\n{"a": 1, "a": 2}\n\xff\n' + pretty(OBJECTS[0]).encode() + b"\n" + b"x" * 300)
    layout = inspect(path, max_chars=100)
    records = list(read_records(path, source="x", layout=layout, max_chars=100))
    there = [parse_record(record) for record in pickle.loads(pickle.dumps(records))]
    here = list(read_rows(path, source="x", layout=layout, max_chars=100))
    assert there == here
    assert [(row.id, row.raw, row.place) for row in there] == [(row.id, row.raw, row.place) for row in here]


MENDED = '{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "mended"}]}'


def quarantine(raw, **more):
    return json.dumps({"id": "x", "line": 3, "byte_offset": 9, "code": "JSON_SYNTAX", "raw": raw, **more})


def test_a_quarantined_row_is_fed_in_again(read_file):
    twice = quarantine(quarantine(MENDED))
    _, rows = read_file("\n".join([quarantine(MENDED), twice, quarantine("{broken"), quarantine(None)]))
    assert [row.content.value for row in rows[:2]] == [json.loads(MENDED)] * 2
    assert [row.raw for row in rows[:3]] == [MENDED, MENDED, "{broken"]
    assert codes(rows[2]) == ["JSON_SYNTAX"]
    assert rows[3].content.value["raw"] is None
