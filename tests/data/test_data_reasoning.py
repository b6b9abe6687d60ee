"""Reasoning beside an answer, and ids of tool calls, from the source's keys to the turns and their findings."""

from __future__ import annotations

import json

import pytest

from tunewright.data.findings import Rejection
from tunewright.data.formats.recognise import build, recognise
from tunewright.data.reading.strict_json import parse

BLOCK = "<think>\nso\n</think>\n\n"


def answer(**turn):
    """The second turn of a row and all notes, or the rejection."""
    row = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", **turn}]}
    draft = build(recognise(parse(json.dumps(row), line=1).value))
    return draft if isinstance(draft, Rejection) else (draft.turns[1], draft.notes)


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
@pytest.mark.parametrize("spelled", ["so", "\n so\n", "<think>so</think>", "<think>\nso\n</think>\n"])
def test_reasoning_stands_in_front_of_its_answer(key, spelled):
    turn, notes = answer(content="a", **{key: spelled})
    assert turn.content == f"{BLOCK}a"
    (note,) = notes
    assert (note.code, note.action) == ("THINK_BLOCK", "repaired")
    assert note.reason == f"the '{key}' of turn 2 stands in front of its answer"


def test_reasoning_of_sharegpt_rows_and_of_tool_calls():
    row = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a", "reasoning_content": "so"}]}
    assert build(recognise(row)).turns[1].content == f"{BLOCK}a"
    call = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    turn, _ = answer(content=None, tool_calls=[call], reasoning_content="so")
    assert (turn.content, len(turn.tool_calls)) == (BLOCK, 1)


@pytest.mark.parametrize(
    ("turn", "content", "unused"),
    [
        ({"content": "a", "reasoning_content": ""}, "a", ""),
        ({"content": "a", "reasoning_content": None}, "a", ""),
        ({"content": "a", "thinking": True}, "a", "thinking"),
        ({"content": "a", "reasoning": {"effort": "high"}}, "a", "reasoning"),
        ({"content": "<think>own</think>a", "reasoning_content": "so"}, "<think>own</think>a", "reasoning_content"),
        ({"content": " ", "reasoning_content": "so"}, " ", "reasoning_content"),
    ],
)
def test_what_is_no_reasoning_of_an_answer_is_left_and_said(turn, content, unused):
    found, notes = answer(**turn)
    assert found.content == content
    assert [(note.code, note.reason) for note in notes] == (
        [("EXTRA_KEY", f"turn 2 has keys that are not used: {unused}")] if unused else []
    )


def test_the_same_reasoning_under_two_names_is_said_once_and_another_is_named():
    turn, notes = answer(content="a", reasoning_content="so", reasoning="so")
    assert (turn.content, [note.code for note in notes]) == (f"{BLOCK}a", ["THINK_BLOCK"])
    turn, notes = answer(content="a", reasoning_content="so", reasoning="else")
    assert (turn.content, [note.code for note in notes]) == (f"{BLOCK}a", ["THINK_BLOCK", "EXTRA_KEY"])
    assert notes[1].reason.endswith("not used: reasoning")


def test_reasoning_with_marks_inside_is_refused_because_its_end_could_not_be_told():
    found = answer(content="a", reasoning_content="one </think> two")
    assert isinstance(found, Rejection)
    assert (found.code, found.reason) == (
        "THINK_BLOCK",
        "the 'reasoning_content' of turn 2 holds marks of reasoning itself, so its end could not be told",
    )


def test_a_users_reasoning_is_no_models():
    row = {"messages": [{"role": "user", "content": "q", "thinking": "so"}, {"role": "assistant", "content": "a"}]}
    draft = build(recognise(row))
    assert (draft.turns[0].content, [note.code for note in draft.notes]) == ("q", ["EXTRA_KEY"])


def test_rules_see_reasoning(gate):
    """A secret in it is found like one in the answer, and an empty answer behind it is still an empty target."""
    turn = {"role": "assistant", "content": "ok", "reasoning_content": "The key is AKIAIOSFODNN7EXAMPLE"}
    assert [f.code for f in gate.one(("user", "q"), turn).findings if f.action == "quarantined"] == ["SECRET"]
    outcome = gate.one(("user", "q"), {"role": "assistant", "content": "", "reasoning_content": "so"})
    assert (outcome.action, outcome.findings[0].code) == ("quarantined", "EMPTY_TARGET")


def test_reasoning_is_trained(proven_gate):
    turn = {"role": "assistant", "content": "ok", "reasoning_content": "because"}
    with_it = proven_gate.one(("user", "q"), turn).usable.tokens.trained
    without = proven_gate.one(("user", "q"), ("assistant", "ok")).usable.tokens.trained
    assert with_it - without == len("<think>\nbecause\n</think>\n\n"), "bytes, which are tokens here"


def call(name, **more):
    return {"type": "function", "function": {"name": name, "arguments": "{}"}, **more}


def turns_of(*turns):
    return build(recognise({"messages": [{"role": "user", "content": "q"}, *turns]})).turns[1:]


def result(content, **more):
    return {"role": "tool", "content": content, **more}


def test_ids_and_names_of_results_are_kept_and_reach_the_template():
    asks = {"role": "assistant", "content": None, "tool_calls": [call("f", id="call_1")]}
    calls, tool = turns_of(asks, result("1", tool_call_id="call_1", name="f"))
    assert calls.tool_calls[0]["id"] == "call_1"
    assert tool.to_template() == {"role": "tool", "content": "1", "tool_call_id": "call_1", "name": "f"}
    assert "tool_call_id" not in turns_of(asks, result("1"))[1].to_template()


def test_a_call_without_an_id_gets_the_one_its_result_names():
    asks = {"role": "assistant", "content": None, "tool_calls": [call("f"), call("g", id="b"), call("h")]}
    calls, *_ = turns_of(asks, result("1", tool_call_id="a"), result("2", tool_call_id="b"))
    assert [one.get("id") for one in calls.tool_calls] == ["a", "b", None]
