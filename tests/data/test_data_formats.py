"""Row formats: which turns and metadata come out of each, and why a row is refused."""

from __future__ import annotations

import json

import pytest

from tunewright.data.findings import Rejection
from tunewright.data.formats.recognise import build, recognise
from tunewright.data.reading.strict_json import parse
from tunewright.data.reading.table_file import TableRow


def read(row):
    """(format, [(role, content, train)], metadata, codes) of a row, or the rejection."""
    value = row if isinstance(row, TableRow) else parse(json.dumps(row), line=1).value
    found = recognise(value)
    draft = found if isinstance(found, Rejection) else build(found)
    if isinstance(draft, Rejection):
        return draft
    turns = [(turn.role, turn.content, turn.train) for turn in draft.turns]
    return found.format, turns, draft.metadata, [note.code for note in draft.notes]


def turn(role, content, **more):
    return {"role": role, "content": content, **more}


Q, A = ("user", "q", None), ("assistant", "a", None)
PAIR = [turn("user", "q"), turn("assistant", "a")]


@pytest.mark.parametrize(
    ("row", "name", "turns", "metadata"),
    [
        ({"conversation": PAIR, "metadata": {"k": 1}}, "conversation", [Q, A], {"k": 1}),
        ({"messages": PAIR, "id": "x"}, "messages", [Q, A], {"id": "x"}),
        (
            {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
            "conversations",
            [Q, A],
            {},
        ),
        ({"messages": PAIR, "system": "s"}, "messages", [("system", "s", None), Q, A], {}),
        ({"instruction": "q", "input": "", "output": "a"}, "alpaca", [Q, A], {}),
        ({"instruction": "q", "input": "n", "output": "a"}, "alpaca", [("user", "q\nn", None), A], {}),
        ({"instruction": "", "input": "q", "output": "a"}, "alpaca", [Q, A], {}),
        (
            {"instruction": "q", "context": "n", "response": "a", "category": "c"},
            "alpaca",
            [("user", "q\nn", None), A],
            {"category": "c"},
        ),
        (
            {"instruction": "q", "input": "", "output": "a", "system": "s", "history": [["q1", "a1"], ["q2", "a2"]]},
            "alpaca",
            [
                ("system", "s", None),
                ("user", "q1", None),
                ("assistant", "a1", None),
                ("user", "q2", None),
                ("assistant", "a2", None),
                Q,
                A,
            ],
            {},
        ),
        ({"prompt": "q", "completion": "a"}, "prompt_completion", [Q, A], {}),
        ({"prompt": "q", "response": "a", "history": [["q", "a"]]}, "prompt_completion", [Q, A, Q, A], {}),
        (
            {"prompt": [turn("system", "s"), *PAIR, turn("user", "q")], "completion": [turn("assistant", "a")]},
            "prompt_completion",
            [("system", "s", None), Q, ("assistant", "a", False), Q, A],
            {},
        ),
        ({"question": "q", "answer": "a", "topic": "t"}, "question_answer", [Q, A], {"topic": "t"}),
        ({"问题": "q", "回答": "a", "科室": "t"}, "question_answer", [Q, A], {"科室": "t"}),
        ({"提问": "q", "答案": "a"}, "question_answer", [Q, A], {}),
        ({" Question ": "q", "ANSWER": "a"}, "question_answer", [Q, A], {}),
        (
            {"department": "d", "title": "t", "ask": "q", "answer": "a"},
            "question_answer",
            [Q, A],
            {"department": "d", "title": "t"},
        ),
        ({"input": "q", "output": "a"}, "question_answer", [Q, A], {}),
        ({"Context": "q", "Response": "a"}, "question_answer", [Q, A], {}),
        (
            {"question": "q", "answer": "a", "history": "taken in May"},
            "question_answer",
            [Q, A],
            {"history": "taken in May"},
        ),
        ({"messages": PAIR, "label": True}, "kto", [Q, A], {"label": True}),
        ({"prompt": "q", "completion": "a", "label": True}, "kto", [Q, A], {"label": True}),
        ({"messages": PAIR, "label": "card_lost"}, "messages", [Q, A], {"label": "card_lost"}),
    ],
)
def test_formats(row, name, turns, metadata):
    assert read(row) == (name, turns, metadata, [])


@pytest.mark.parametrize(
    ("row", "turns", "rejected"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, [Q, A], "b"),
        (
            {
                "prompt": [*PAIR, turn("user", "q")],
                "chosen": [turn("assistant", "a")],
                "rejected": [turn("assistant", "b")],
            },
            [Q, ("assistant", "a", False), Q, A],
            [turn("assistant", "b")],
        ),
        (
            {
                "conversations": [{"from": "human", "value": "q"}],
                "chosen": {"from": "gpt", "value": "a"},
                "rejected": {"from": "gpt", "value": "b"},
            },
            [Q, A],
            {"from": "gpt", "value": "b"},
        ),
        (
            {"chosen": [*PAIR, *PAIR], "rejected": [turn("user", "q")]},
            [Q, ("assistant", "a", False), Q, A],
            [turn("user", "q")],
        ),
        ({"chosen_messages": PAIR, "rejected_messages": None}, [Q, A], None),
        ({"instruction": "q", "input": "", "chosen": "a", "rejected": "b"}, [Q, A], "b"),
        ({"question": "q", "chosen": "a", "rejected": "b"}, [Q, A], "b"),
        ({"system": "s", "prompt": "q", "chosen": "a", "rejected": 3}, [("system", "s", None), Q, A], 3),
    ],
)
def test_preferences_are_trained_on_the_chosen_answer(row, turns, rejected):
    name, found, metadata, codes = read(row)
    assert (name, found, metadata, codes) == ("dpo", turns, {"rejected": rejected}, ["PREFERENCE"])


@pytest.mark.parametrize(
    ("row", "code", "reason"),
    [
        (
            {"text": "Service Experts offers air cleaners."},
            "MISSING",
            "the row has a text but no turns and no answer: it is no conversation",
        ),
        ({"foo": 1}, "MISSING", "no question with its answer (found: foo)"),
        ({}, "MISSING", "(found: none)"),
        ({"question": "q"}, "MISSING", "(found: question)"),
        ({"question": "q", "answer": None}, "MISSING", "no question with its answer"),
        ([1], "MISSING", "must be an object, not a list"),
        (7, "MISSING", "must be an object, not a number"),
        ({"messages": []}, "MISSING", "'messages' has no turns"),
        ({"messages": "hello"}, "MISSING", "'messages' is no list of turns but a text"),
        ({"messages": {"role": "user"}}, "MISSING", "'messages' is no list of turns but an object"),
        ({"chosen": "a", "rejected": "b"}, "MISSING", "a chosen answer but no question (found: chosen, rejected)"),
        ({"prompt": "q", "chosen": 3, "rejected": "b"}, "TYPE", "'chosen' is no answer but a number"),
        (
            {"messages": PAIR, "label": False},
            "UNDESIRED",
            "'label' is false: the answer is an example of how not to answer",
        ),
        ({"question": "q", "answer": "a", "kto_tag": False}, "UNDESIRED", "'kto_tag' is false"),
        ({"instruction": "q", "output": "a", "history": [["q"]]}, "TYPE", "item 1 of 'history' is no pair"),
        (
            {"instruction": "q", "output": "a", "history": "x"},
            "TYPE",
            "'history' is no list of earlier turns but a text",
        ),
        ({"instruction": "q", "output": None}, "NULL_CONTENT", "the content of turn 2 is null"),
        ({"instruction": "q", "output": {"a": 1}}, "TYPE", "the content of turn 2 is an object"),
        (
            {"question": "q", "answer": "a", "image": "a.png"},
            "PARTS",
            "the row has 'image', which needs a multimodal recipe",
        ),
        ({"messages": [turn("user", "q"), "a"]}, "TYPE", "turn 2 is no object but a text"),
        ({"messages": [turn("user", "q"), turn("narrator", "a")]}, "UNKNOWN_ROLE", "unknown role 'narrator'"),
        (
            {"messages": [turn("user", "q"), turn("assistant", "a", weight=-1)]},
            "TYPE",
            "'weight' of turn 2 must be 0 or 1, not -1",
        ),
    ],
)
def test_refused_with_the_reason(row, code, reason):
    rejection = read(row)
    assert isinstance(rejection, Rejection)
    assert rejection.code == code
    assert reason in rejection.reason


def test_tables_of_two_columns_are_read_whatever_they_are_called():
    name, turns, metadata, codes = read(TableRow(zip(["frage", "antwort"], "qa", strict=True)))
    assert (name, turns, metadata, codes) == ("question_answer", [Q, A], {}, ["COLUMNS"])
    assert read(TableRow(zip(["answer", "frage"], "aq", strict=True)))[1] == [Q, A]
    assert read(TableRow(zip(["question", "answer"], "qa", strict=True)))[3] == []
    assert read({"frage": "q", "antwort": "a"}).code == "MISSING"
    assert read(TableRow(zip(["frage", "antwort", "x"], "qax", strict=True))).code == "MISSING"


def test_turns_and_metadata_as_json_inside_a_cell():
    row = TableRow(messages=json.dumps(PAIR), metadata='{"k": 1}', topic="t")
    assert read(row) == ("messages", [Q, A], {"topic": "t", "k": 1}, ["NESTED_JSON", "NESTED_JSON"])


@pytest.mark.parametrize(
    ("tools", "expected", "codes"),
    [
        ('[{"name": "f", "n": 1.5}]', [{"name": "f", "n": 1.5}], []),
        ('{"name": "f"}', [{"name": "f"}], []),
        ([{"name": "f"}], [{"name": "f"}], []),
        ("", "", []),
        ("[1]", "[1]", ["TOOL_ARGS"]),
        ("{broken", "{broken", ["TOOL_ARGS"]),
    ],
)
def test_tools_become_a_list_of_objects(tools, expected, codes):
    assert read({"messages": PAIR, "tools": tools})[2:] == ({"tools": expected}, codes)
    assert read({"conversation": PAIR, "metadata": {"tools": tools}})[2:] == ({"tools": expected}, codes)


def test_calls_and_observations_of_sharegpt():
    call = '{"name": "f", "arguments": {"x": 1}}'
    row = {
        "conversations": [
            {"from": "human", "value": "q"},
            {"from": "function_call", "value": call},
            {"from": "observation", "value": "{}"},
            {"from": "gpt", "value": "a"},
        ]
    }
    name, turns, _, codes = read(row)
    assert turns == [Q, ("assistant", None, None), ("tool", "{}", None), A]
    assert (name, codes) == ("conversations", [])
    assert recognise(row).format == "conversations"


def test_parts_of_text_reasoning_and_calls():
    parts = [
        {"type": "reasoning", "value": "so"},
        {"type": "text", "value": "a"},
        {"type": "tool_call", "value": '{"name": "f", "arguments": {}}'},
    ]
    found = recognise({"messages": [turn("user", ["q"]), turn("assistant", parts)]})
    draft = build(found)
    assert draft.turns[0].content == "q"
    assert draft.turns[1].content == "<think>\nso\n</think>\n\na"
    assert draft.turns[1].tool_calls[0]["function"] == {"name": "f", "arguments": {}}
    assert [note.code for note in draft.notes] == ["PARTS", "THINK_BLOCK", "PARTS"]
    assert draft.notes[0].reason == "the text part of turn 1 is its text"
    only_call = build(recognise({"messages": [turn("user", "q"), turn("assistant", parts[2:])]}))
    assert only_call.turns[1].content is None and len(only_call.turns[1].tool_calls) == 1


@pytest.mark.parametrize(
    ("weight", "train", "codes"),
    [
        ({"weight": 0}, False, []),
        ({"weight": 1}, True, []),
        ({"loss_weight": 0.0}, False, []),
        ({"loss_weight": 1.0}, True, []),
        ({"weight": 0.5}, True, ["TYPE"]),
        ({"weight": None}, None, []),
        ({"train": False, "weight": 1}, False, []),
    ],
)
def test_weights_decide_what_is_trained(weight, train, codes):
    _, turns, _, found = read({"messages": [turn("user", "q"), turn("assistant", "a", **weight)]})
    assert turns[1][2] is train
    assert found == codes


def test_one_odd_row_changes_no_other():
    rows = [
        {"messages": PAIR},
        {"messages": [turn("user", 5), turn("assistant", "a")]},
        {"question": "q", "answer": "a"},
        {"messages": 3},
    ]
    assert [getattr(read(row), "code", None) or read(row)[0] for row in [*rows, *rows]] == [
        "messages",
        "messages",
        "question_answer",
        "MISSING",
    ] * 2
    assert read(rows[1])[1][0] == ("user", "5", None)
