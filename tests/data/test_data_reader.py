from __future__ import annotations

import json
import tracemalloc

import pytest

from tunewright.core.errors import ArtifactError, ConfigError
from tunewright.data.reading.rows import inspect, read_rows
from tunewright.data.reading.strict_json import NonFinite, Parsed, Rejection, SourceNumber, parse, plain

GOOD = b'{"conversation":[{"role":"user","content":"q%d"},{"role":"assistant","content":"a"}]}'


def good(n):
    return GOOD % n


def test_lines_are_split_on_line_feed_only(gate):
    text = "a\u2028b\u0085c\x0bd"
    row = json.dumps({"conversation": [{"role": "user", "content": text}]}, ensure_ascii=False)
    rows = gate.rows(row.replace("\x0b", "\\u000b").encode() + b"\n" + good(1))
    assert len(rows) == 2
    assert rows[0].content.value["conversation"][0]["content"] == text


def test_line_number_byte_offset_and_id(gate):
    data = b"\n \n" + '{"a":"余"}'.encode() + b"\r\n\n" + good(1)
    rows = gate.rows(data)
    assert [(row.number, row.place.line, row.place.byte_offset, row.id) for row in rows] == [
        (1, 3, 3, "input.jsonl:3"),
        (2, 5, data.index(GOOD[:15]), "input.jsonl:5"),
    ]


def test_bom_is_stripped_from_any_line(gate, found):
    outcomes = gate.outcomes(b"\xef\xbb\xbf" + good(1) + b"\n\xef\xbb\xbf" + good(2) + b"\n" + good(3))
    assert [list(found(outcome)) for outcome in outcomes] == [["BOM"], ["BOM"], []]


@pytest.mark.parametrize(("codec", "bom"), [("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff")])
def test_utf16_by_its_mark(gate, codec, bom):
    # U+0A0A and U+0A00 hold the byte of a line feed in either half of the unit
    texts = ["如何\u0a0a治疗\u0a00", "第二行"]
    lines = [json.dumps({"conversation": [{"role": "user", "content": t}]}, ensure_ascii=False) for t in texts]
    data = bom + "\n".join(lines).encode(codec)
    rows = gate.rows(data)
    assert [row.content.value["conversation"][0]["content"] for row in rows] == texts
    assert rows[1].place.byte_offset == 2 + len((lines[0] + "\n").encode(codec))
    assert rows[0].content.notes[0].code == "ENCODING"


def test_gb18030_only_when_everything_is_valid_chinese(gate, found):
    chinese = '{"conversation":[{"role":"user","content":"如何更换密码"},{"role":"assistant","content":"去设置"}]}'
    (whole,) = gate.outcomes(chinese.encode("gb18030"))
    assert found(whole)["ENCODING"] == ("repaired", "read as GB18030, written as UTF-8")
    assert whole.usable.conversation.messages[0].content == "如何更换密码"
    mixed = gate.outcomes(chinese.encode() + b"\n" + chinese.replace("密码", "卡号").encode("gb18030"))
    assert [outcome.action for outcome in mixed] == ["kept", "quarantined"]
    assert "BAD_UTF8" in found(mixed[1])


@pytest.mark.parametrize("text", [b"caf\xe9 noir", b"\xe9t\xe9 fran\xe7ais cr\xe9\xe9e", b"Gr\xfc\xdfe"])
def test_latin1_is_never_taken_for_chinese(gate, found, text):
    (outcome,) = gate.outcomes(good(1).replace(b"q1", text))
    assert "BAD_UTF8" in found(outcome)


def test_encoding_of_the_project_file_wins(gate):
    data = good(1).replace(b"q1", "目目".encode("gb18030"))  # these bytes are valid UTF-8 by accident
    assert "目目" not in str(gate.rows(data)[0].content)
    assert "目目" in str(gate.rows(data, wanted="gb18030")[0].content)


def test_no_replacement_character_enters(gate):
    rows = gate.rows(good(1) + b"\n" + good(2).replace(b"q2", b"q\xff") + b"\n" + good(3))
    assert [isinstance(row.content, Rejection) for row in rows] == [False, True, False]
    assert rows[1].content.reason.startswith(f"byte 0xff at offset {len(good(1)) + 1 + good(2).index(b'q2') + 1}")
    assert all("\ufffd" not in str(row) for row in rows)


def test_line_over_the_limit_is_counted_not_held(gate):
    huge = good(1).replace(b"q1", b"x" * 5000)
    rows = gate.rows(huge + b"\n" + good(2), max_chars=200)
    assert (rows[0].content.code, rows[0].content.reason) == ("TOO_LONG", f"{len(huge)} characters, limit 200")
    assert rows[0].raw is None
    assert rows[1].place.line == 2
    assert rows[1].place.byte_offset == len(huge) + 1


@pytest.mark.parametrize("start", [b"", b"["])
def test_memory_is_bounded(tmp_path, start):
    path = tmp_path / "big.jsonl"
    line = good(1).replace(b"q1", b"x" * 1_000_000)
    with path.open("wb") as handle:
        handle.write(start)
        for index in range(20):
            handle.write(line if index else good(1).replace(b"q1", b"y" * 20_000_000))
            handle.write(b",\n" if start else b"\n")
    layout = inspect(path, max_chars=1_100_000)
    tracemalloc.start()
    rows = sum(1 for _ in read_rows(path, source="big", layout=layout, max_chars=1_100_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == 20
    assert peak < 30_000_000  # the file has 40 MB and one line of 20 MB


@pytest.mark.parametrize(
    ("text", "code", "reason"),
    [
        ('{"a": 1, "a": 2}', "DUP_KEY", "the key 'a' stands twice"),
        ('{"x": [{"b": 1, "b": 1}]}', "DUP_KEY", "the key 'b' stands twice"),
        ('{"a": 1,}', "JSON_SYNTAX", "column"),
        ("{'a': 1}", "JSON_SYNTAX", "line 9, column 2"),
        ('{"a": 1} {"b": 2}', "JSON_SYNTAX", "Extra data"),
        ('{"a": "b', "JSON_SYNTAX", "cut off"),
        ("# note", "JSON_SYNTAX", "line 9 is a comment"),
        ("[" * 100_000, "JSON_SYNTAX", "nested too deep"),
        ('{"a": 01}', "JSON_SYNTAX", "column"),
        ('{"a": "tab\there"}', "JSON_SYNTAX", "column"),
    ],
)
def test_what_is_no_json(text, code, reason):
    rejection = parse(text, line=9)
    assert isinstance(rejection, Rejection)
    assert rejection.code == code
    assert reason in rejection.reason
    assert len(rejection.excerpt) <= 40


def test_numbers_keep_their_spelling_until_they_are_metadata():
    parsed = parse('{"a": 3.50, "b": 1e999, "c": -0, "d": NaN, "e": [1, "2"], "f": 1' + "0" * 5000 + "}", line=1)
    assert isinstance(parsed, Parsed)
    assert parsed.value["a"] == SourceNumber("3.50")
    assert isinstance(parsed.value["d"], NonFinite)
    values, lost = plain(parsed.value)
    assert lost == 2
    assert values == {"a": 3.5, "b": None, "c": 0, "d": None, "e": [1, "2"], "f": "1" + "0" * 5000}


def test_surrogate_pairs_stay_and_halves_go():
    parsed = parse(r'{"a": "\ud83d\ude00 \ud83d x", "\udc00k": 1}', line=1)
    assert parsed.value == {"a": "😀  x", "k": "1"}
    assert parsed.notes[0].reason == "2 lone surrogate(s) removed"
    assert parse(r'{"a": "\ud83d\ude00"}', line=1).notes == ()


ARRAY = b'[\n  {"a": "x]},{\\"", "b": {"c": [1, 2]}},\n  {"a": "2"}, 7,\n {"a": "\xe4\xbd\x99"}\n]\n'


def test_array_elements_are_rows_with_their_own_place(gate):
    rows = gate.rows(ARRAY)
    assert [row.content.value for row in rows[:2]] == [{"a": 'x]},{"', "b": {"c": ["1", "2"]}}, {"a": "2"}]
    assert [row.place.line for row in rows] == [2, 3, 3, 4]
    assert [ARRAY[row.place.byte_offset :][: row.size] for row in rows][3] == '{"a": "余"}'.encode()
    assert [row.id for row in rows] == [f"input.jsonl#{n}" for n in (1, 2, 3, 4)]
    assert rows[2].content.value == "7"


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64])
def test_array_reader_does_not_depend_on_chunks(gate, monkeypatch, chunk):
    from tunewright.data.reading import array_file

    expected = gate.rows(ARRAY)
    layout = inspect(gate.folder / "input.jsonl", max_chars=1000)
    monkeypatch.setattr(array_file, "_CHUNK", chunk)
    rows = list(read_rows(gate.folder / "input.jsonl", source="input.jsonl", layout=layout, max_chars=1000))
    assert rows == expected


def test_broken_arrays_lose_no_row(gate):
    rows = gate.rows(b'[{"a":1} {"a":2},, {"a":"\xff"}, {"a":')
    codes = [row.content.code if isinstance(row.content, Rejection) else "" for row in rows]
    assert codes == ["", "", "BAD_UTF8", "JSON_SYNTAX"]


def test_log_lines_in_brackets_are_no_array(gate):
    rows = gate.rows(b"[INFO] started\n" + good(1) + b"\n" + good(2))
    assert [isinstance(row.content, Rejection) for row in rows] == [True, False, False]


@pytest.mark.parametrize(
    ("data", "problem"),
    [(b"", "the data source is empty"), (None, "there is no such data source")],
)
def test_missing_and_empty_files(tmp_path, data, problem):
    path = tmp_path / "x.jsonl"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ArtifactError, match=problem) as caught:
        inspect(path, max_chars=1000)
    assert caught.value.where == str(path)
    assert caught.value.fix


def test_other_faults_of_a_file(tmp_path):
    with pytest.raises(ArtifactError, match="is a directory"):
        inspect(tmp_path, max_chars=1000)
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(ConfigError, match="ZIP archives are not read"):
        inspect(tmp_path / "a.zip", max_chars=1000)
    (tmp_path / "b.jsonl").write_bytes("x".encode("utf-32"))
    with pytest.raises(ArtifactError, match="UTF-32"):
        inspect(tmp_path / "b.jsonl", max_chars=1000)


def test_garbage_never_crashes_the_reader(gate, soak):
    """Mutations of good rows: every one ends as an outcome, every usable one can be written as UTF-8."""
    import random

    random_bytes = random.Random(11)
    base = good(1) + b"\n" + ARRAY + '{"messages":[{"role":"user","content":"余额"}]}'.encode() + b"\n" + good(2)
    for _ in range(100_000 if soak else 300):
        data = bytearray(base)
        for _ in range(random_bytes.randint(1, 8)):
            data[random_bytes.randrange(len(data))] = random_bytes.randrange(256)
        for outcome in gate.outcomes(bytes(data[random_bytes.randrange(5) :])):
            assert (outcome.usable is None) == (outcome.action == "quarantined")
            assert all(finding.reason.encode() and finding.excerpt.encode() is not None for finding in outcome.findings)
            if outcome.usable:
                assert json.dumps(outcome.usable.conversation.to_row(), ensure_ascii=False).encode()
