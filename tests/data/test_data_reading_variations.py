"""Broken input of the kinds that users met, in other shapes than the collected cases: how each row ends, and why."""

from __future__ import annotations

import json

import pytest

from tunewright.data.findings import Rejection, locate, worst_action
from tunewright.data.formats.recognise import build, recognise
from tunewright.data.reading.rows import inspect, read_rows
from tunewright.data.rules.options import RolesOptions
from tunewright.data.rules.roles import Roles


def row(content='"hi"', answer='"ok"', more=""):
    return f'{{"messages":[{{"role":"user","content":{content}}},{{"role":"assistant","content":{answer}}}]{more}}}'


@pytest.fixture
def ends(tmp_path):
    """[(action, codes, question or reason)] of the rows of a file; reading, format and turn order are applied."""

    def read(data, name="x.jsonl"):
        path = tmp_path / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        layout = inspect(path, max_chars=2_000)
        return [end(row) for row in read_rows(path, source="x", layout=layout, max_chars=2_000)]

    return read


def end(row):
    notes, draft = (), row.content
    if not isinstance(draft, Rejection):
        notes, draft = draft.notes, recognise(draft.value)
    draft = draft if isinstance(draft, Rejection) else build(draft)
    draft = draft if isinstance(draft, Rejection) else Roles(RolesOptions()).apply(draft)
    if isinstance(draft, Rejection):
        found = locate(row.place, (draft.as_note(), *notes))
        return worst_action(found), [finding.code for finding in found], draft.reason
    found = locate(row.place, (*notes, *draft.notes))
    return worst_action(found), [finding.code for finding in found], draft.turns[0].content


KEPT = ("kept", [], "hi")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        # byte order marks: inside a text, in front of a later line, alone on a line, twice, in front of an array
        (row('"a\ufeffb"'), [("kept", [], "a\ufeffb")]),
        (
            f"{row()}\n\ufeff{row()}\n\ufeff\n\ufeff\ufeff{row()}",
            [KEPT, ("repaired", ["BOM"], "hi"), ("repaired", ["BOM"], "hi")],
        ),
        (f"\ufeff[{row()},\n{row()}]", [("repaired", ["BOM", "ARRAY"], "hi"), ("repaired", ["ARRAY"], "hi")]),
        # carriage returns: before the line feed, twice, alone between rows, inside a text
        (f"{row()}\r\n{row()}\r\r\n\r\n{row()}\r", [KEPT, KEPT, KEPT]),
        (
            f"{row()}\r{row()}\n{row()}",
            [("quarantined", ["JSON_SYNTAX"], f"no valid JSON at line 1, column {len(row()) + 2}: Extra data"), KEPT],
        ),
        (
            f"{row(chr(34) + 'a' + chr(13) + 'b' + chr(34))}\n{row()}",
            [
                ("quarantined", ["JSON_SYNTAX"], "no valid JSON at line 1, column 41: Invalid control character at"),
                KEPT,
            ],
        ),
        # UTF-16 without a line feed at the end, with half a unit at the end, with half a pair
        (f"{row()}\n{row()}".encode("utf-16"), [("repaired", ["ENCODING"], "hi")] * 2),
        (
            f"{row()}\n{row()}".encode("utf-16") + b"}",
            [("repaired", ["ENCODING"], "hi"), ("quarantined", ["BAD_UTF8"], None)],
        ),
        (row('"a\ud83d"').encode("utf-16", "surrogatepass"), [("repaired", ["ENCODING", "SURROGATE"], "a")]),
        # GB18030 with characters of four bytes; one such row among UTF-8
        (
            row('"我的银行卡丢了，怎么办？𠮷😀㐀"').encode("gb18030"),
            [("repaired", ["ENCODING"], "我的银行卡丢了，怎么办？𠮷😀㐀")],
        ),
        (
            row('"我的银行卡"').encode("gb18030") + f"\n{row()}\n{row(chr(34) + '余额' + chr(34))}\n".encode(),
            [("quarantined", ["BAD_UTF8"], None), KEPT, ("kept", [], "余额")],
        ),
        (
            row().replace("hi", "caf\xe9").encode("latin-1") + f"\n{row()}".encode(),
            [("quarantined", ["BAD_UTF8"], None), KEPT],
        ),
        (row().encode().replace(b"hi", b"\xed\xa0\x80"), [("quarantined", ["BAD_UTF8"], None)]),
        # surrogates: halves around a pair, in a key, in the wrong order; a pair is no finding
        (row(r'"\ud83d\ud83d\ude00 \ude00\ud83d"'), [("repaired", ["SURROGATE"], "😀 ")]),
        (row(more=r',"k\ud800":1'), [("repaired", ["SURROGATE"], "hi")]),
        (row(more=r',"k\ud800":1,"k":2'), [("quarantined", ["DUP_KEY"], "the key 'k' stands twice in an object")]),
        (row(r'"\ud83d\ude00"'), [("kept", [], "😀")]),
        # comments and what is between rows
        (
            f"# a\n{row()}\n  // b\n/* c */\n",
            [
                ("quarantined", ["JSON_SYNTAX"], "line 1 is a comment, which JSON does not have"),
                KEPT,
                ("quarantined", ["JSON_SYNTAX"], "line 3 is a comment, which JSON does not have"),
                ("quarantined", ["JSON_SYNTAX"], "line 4 is a comment, which JSON does not have"),
            ],
        ),
        (f"\n \t\n\u00a0\n{row()}\n\n", [KEPT]),
        # commas: behind the object, inside it, inside a list, behind the last turn
        (f"{row()},\n{row()} , \r\n", [("repaired", ["JSON_SYNTAX"], "hi")] * 2),
        (f"{row()[:-1]},}}\n{row()}", [("quarantined", ["JSON_SYNTAX"], None), KEPT]),
        (row().replace("}]", "},]"), [("quarantined", ["JSON_SYNTAX"], None)]),
        (f"{row()},,\n", [("quarantined", ["JSON_SYNTAX"], None)]),
        # cut: the last line, the last element
        (f"{row()}\n{row()[:-1]}", [KEPT, ("quarantined", ["JSON_SYNTAX"], None)]),
        (f"[{row()},\n{row()[:50]}", [("repaired", ["ARRAY"], "hi"), ("quarantined", ["JSON_SYNTAX"], None)]),
        # no numbers: as content, deep in metadata, an exponent that is too large
        (row("NaN"), [("quarantined", ["NON_FINITE"], "the content of turn 1 is NaN, which is no JSON")]),
        (
            row(answer="-Infinity"),
            [("quarantined", ["NON_FINITE"], "the content of turn 2 is -Infinity, which is no JSON")],
        ),
        (row(more=',"metadata":{"a":{"b":[NaN,-Infinity,1e999]}}'), [("repaired", ["NON_FINITE"], "hi")]),
        (row(more=',"score":Infinity'), [("repaired", ["NON_FINITE"], "hi")]),
        # numbers and truth values as content keep the spelling of the source
        (row("1e5"), [("repaired", ["TYPE"], "1e5")]),
        (row("-0.50E-3"), [("repaired", ["TYPE"], "-0.50E-3")]),
        (row("007"), [("quarantined", ["JSON_SYNTAX"], None)]),
        (row("12345678901234567890123"), [("repaired", ["TYPE"], "12345678901234567890123")]),
        (row("true"), [("repaired", ["TYPE"], "true")]),
        (row('{"a": 1}'), [("quarantined", ["TYPE"], "the content of turn 1 is an object")]),
        (row("null"), [("quarantined", ["NULL_CONTENT"], "the content of turn 1 is null")]),
        (row(answer="null"), [("quarantined", ["NULL_CONTENT"], "the content of turn 2 is null")]),
        # keys that stand twice: deep, spelled differently, in metadata
        (
            row(more=',"x":[[{"y":{"z":1,"z":2}}]]'),
            [("quarantined", ["DUP_KEY"], "the key 'z' stands twice in an object")],
        ),
        (row(more=r',"a":1,"\u0061":2'), [("quarantined", ["DUP_KEY"], "the key 'a' stands twice in an object")]),
        (
            row(more=',"metadata":{"k":":v","k":"w"}'),
            [("quarantined", ["DUP_KEY"], "the key 'k' stands twice in an object")],
        ),
        # JSON inside a text: the turns, the row; twice is refused
        (
            json.dumps(
                {"messages": json.dumps([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ok"}])}
            ),
            [("repaired", ["NESTED_JSON"], "hi")],
        ),
        (json.dumps(row()), [("repaired", ["NESTED_JSON"], "hi")]),
        (json.dumps(json.dumps(row())), [("quarantined", ["MISSING"], "a row must be an object, not a text")]),
        # parts: mixed with texts, none, without text, not of text
        (row('["a",{"type":"text","text":"b"},{"text":"c"}]'), [("repaired", ["PARTS"], "abc")]),
        (row("[]"), [("quarantined", ["EMPTY_INPUT"], "user turn 1 is empty")]),
        (row('[{"type":"text","text":null}]'), [("quarantined", ["PARTS"], "turn 1 has a text part without text")]),
        (row('[{"type":"input_audio"}]'), [("quarantined", ["PARTS"], None)]),
        # rows that are no objects
        (
            f"null\n3\n[]\n{row()}",
            [
                ("quarantined", ["MISSING"], "a row must be an object, not null"),
                ("quarantined", ["MISSING"], "a row must be an object, not a number"),
                ("quarantined", ["MISSING"], "a row must be an object, not a list"),
                KEPT,
            ],
        ),
        ("{'a': 1}", [("quarantined", ["JSON_SYNTAX"], None)]),
        (row('"a\tb"'), [("quarantined", ["JSON_SYNTAX"], None)]),
        (row('"a\0b"'), [("quarantined", ["JSON_SYNTAX"], None)]),
        (row('"' + "x" * 2000 + '"'), [("quarantined", ["TOO_LONG"], "2079 characters, limit 2000")]),
    ],
)
def test_variations(ends, data, expected):
    found = ends(data)
    assert [(action, codes) for action, codes, _ in found] == [(action, codes) for action, codes, _ in expected]
    for (_, _, text), (_, _, wanted) in zip(found, expected, strict=True):
        assert wanted is None or text == wanted


@pytest.mark.parametrize(
    ("user", "assistant"),
    [
        ("User", "ASSISTANT"),
        ("HUMAN", " gpt "),
        ("用户", "客服"),
        ("顾客", "机器人"),
        ("customer", "agent"),
        ("患者", "医生"),
        ("问", "答"),
    ],
)
def test_role_names_of_the_field(ends, user, assistant):
    data = row().replace('"user"', f'"{user}"').replace('"assistant"', f'"{assistant}"')
    assert ends(data) == [("repaired", ["ROLE_ALIAS"], "hi")]


@pytest.mark.parametrize("user", ["users", "", "7", "narrator"])
def test_other_role_names_are_refused(ends, user):
    (found,) = ends(row().replace('"user"', f'"{user}"'))
    assert found[:2] == ("quarantined", ["UNKNOWN_ROLE"])


def test_the_public_files_are_read_or_refused(shared):
    """(usable rows, quarantined rows) of each file, or the error. The numbers of rows are those of the files."""
    from tunewright.core.errors import TunewrightError

    found = {}
    for path in [*(shared / "data" / "format_variety").glob("*.json*"), *(shared / "data" / "messy_raw").iterdir()]:
        try:
            layout = inspect(path, max_chars=1_000_000)
            actions = [end(row)[0] for row in read_rows(path, source="x", layout=layout, max_chars=1_000_000)]
            found[path.name] = (len(actions) - actions.count("quarantined"), actions.count("quarantined"))
        except TunewrightError as error:
            found[path.name] = error.problem
    assert found == {
        **dict.fromkeys(
            ["alpaca_zh_demo.json", "disc_finllm_alpaca_history.json", "identity.json", "dpo_zh_demo.json"], (5, 0)
        ),
        **dict.fromkeys(["glaive_toolcall_en_demo.json", "sharegpt_fastchat_dummy.json", "v1_sft_demo.jsonl"], (5, 0)),
        **dict.fromkeys(["v1_dpo_demo.jsonl", "reason_tool_use_demo_50.jsonl"], (5, 0)),
        "kto_en_demo.json": (4, 1),  # one row's label is false
        "c4_demo.jsonl": (0, 5),
        "mllm_demo.json": (0, 5),
        "mllm_audio_demo.json": (0, 3),
        "v1_multimodal_demo.jsonl": (0, 5),
        "medical_gb18030.csv": (40, 0),
        **dict.fromkeys(
            ["2009-02-23_10.raw.txt", "channel-two.dev.raw.txt", "README.md"],
            "the file is plain text without a JSON row or a table",
        ),
    }


@pytest.mark.parametrize(("name", "rows", "usable"), [("messy_irc", 421, 400), ("toolcall", 200, 200)])
def test_public_dialogues_are_usable(shared, name, rows, usable):
    path = shared / "data" / name / "test.jsonl"
    layout = inspect(path, max_chars=1_000_000)
    actions = [end(row)[0] for row in read_rows(path, source="x", layout=layout, max_chars=1_000_000)]
    assert len(actions) == rows
    assert rows - actions.count("quarantined") >= usable
