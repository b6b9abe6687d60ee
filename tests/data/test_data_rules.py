from __future__ import annotations

import json

import pytest

from tunewright.core.chat import Message
from tunewright.data.draft import Draft
from tunewright.data.findings import Rejection
from tunewright.data.rules.length import Length
from tunewright.data.rules.options import LengthOptions


def turns(outcome):
    return [(m.role, m.content, m.train) for m in outcome.usable.conversation.messages]


def test_clean_row_has_no_finding(gate):
    outcome = gate.one(("system", "s"), ("user", "q"), ("assistant", "a"), metadata={"k": 1})
    assert (outcome.action, outcome.findings) == ("kept", ())
    assert turns(outcome) == [("system", "s", None), ("user", "q", None), ("assistant", "a", None)]
    assert outcome.usable.conversation.metadata == {"k": 1}


def test_dangling_user_is_cut_only_at_the_end(gate, found):
    outcome = gate.one(("user", "q"), ("assistant", "a"), ("user", "x"), ("user", "y"))
    assert turns(outcome) == [("user", "q", None), ("assistant", "a", None)]
    assert set(found(outcome)) == {"DANGLING_USER", "SAME_ROLE"}


def test_first_assistant_is_context(gate, found):
    outcome = gate.one(("system", "s"), ("assistant", "hello"), ("user", "q"), ("assistant", "a"))
    assert [(role, train) for role, _, train in turns(outcome)][1:] == [
        ("assistant", False),
        ("user", None),
        ("assistant", None),
    ]
    assert found(outcome)["FIRST_ASSISTANT"][0] == "kept"


def test_empty_target_masks_its_turn_and_rejects_a_row_without_others(gate, found):
    outcome = gate.one(("user", "q"), ("assistant", "  "), ("user", "r"), ("assistant", "a"))
    assert [train for _, _, train in turns(outcome)] == [None, False, None, None]
    assert found(outcome)["EMPTY_TARGET"] == ("repaired", "assistant turn 2 is empty, not trained")
    assert found(gate.one(("user", "q"), ("assistant", "\n")))["EMPTY_TARGET"][0] == "quarantined"
    assert found(gate.one(("user", "q")))["EMPTY_TARGET"] == ("quarantined", "the row has no assistant turn")


def test_a_row_that_trains_nothing_is_quarantined(gate, found):
    outcome = gate.one(("user", "q"), {"role": "assistant", "content": "a", "train": False})
    assert found(outcome)["ALL_MASKED"][0] == "quarantined"
    assert "ALL_MASKED" in found(gate.one(("assistant", "hello")))


@pytest.mark.parametrize("blank", ["", " \n", "\u3000", "\u200b\ufeff"])
def test_empty_input_also_after_cleaning_and_before_merging(gate, found, blank):
    assert found(gate.one(("user", blank), ("assistant", "a")))["EMPTY_INPUT"] == (
        "quarantined",
        "user turn 1 is empty",
    )
    outcome = gate.one(("user", "q"), ("user", blank), ("assistant", "a"))
    assert found(outcome)["EMPTY_INPUT"] == ("quarantined", "user turn 2 is empty")
    assert found(gate.one(("user", "q"), ("assistant", blank)))["EMPTY_TARGET"][0] == "quarantined"


def test_merging(gate, found):
    outcome = gate.one(("user", "a"), ("user", "b"), ("assistant", "c"), ("assistant", ""), ("assistant", "d"))
    assert turns(outcome) == [("user", "a\nb", None), ("assistant", "c\nd", None)]
    apart = gate.one(("user", "q"), {"role": "assistant", "content": "x", "train": False}, ("assistant", "y"))
    assert [content for _, content, _ in turns(apart)] == ["q", "x", "y"]
    assert found(apart)["SAME_ROLE"][0] == "kept"


def test_tool_turns_never_merge(gate):
    call = {"role": "assistant", "content": None, "tool_calls": [{"name": "f", "arguments": {}}]}
    outcome = gate.one(("user", "q"), call, ("tool", "1"), ("tool", "2"), ("assistant", "a"), call, ("tool", "3"))
    assert [m.role for m in outcome.usable.conversation.messages] == [
        *("user", "assistant", "tool", "tool", "assistant", "assistant", "tool")
    ]
    assert outcome.action == "kept"


def test_system_in_the_middle_goes_in_front_of_the_next_question(gate, found):
    outcome = gate.one(("user", "q"), ("assistant", "a"), ("system", "be brief"), ("user", "r"), ("assistant", "b"))
    assert [content for _, content, _ in turns(outcome)] == ["q", "a", "be brief\nr", "b"]
    assert found(outcome)["SYSTEM_MID"] == ("repaired", "system turn 3 folded into the next user turn")
    end = gate.one(("user", "q"), ("assistant", "a"), ("system", "bye"))
    assert "no user turn behind" in found(end)["SYSTEM_MID"][1]


@pytest.mark.parametrize(
    ("named", "role"),
    [("human", "user"), ("gpt", "assistant"), ("bot", "assistant"), ("客服", "assistant"), ("USER ", "user")],
)
def test_role_aliases(gate, found, named, role):
    other = "assistant" if role == "user" else "user"
    pair = [(named, "x"), (other, "y")] if role == "user" else [(other, "y"), (named, "x")]
    outcome = gate.one(*pair)
    assert [m.role for m in outcome.usable.conversation.messages] == ["user", "assistant"]
    assert found(outcome)["ROLE_ALIAS"][0] == "repaired"


def test_unknown_and_missing_roles(gate, found):
    assert found(gate.one(("user", "q"), ("narrator", "x")))["UNKNOWN_ROLE"] == (
        "quarantined",
        "turn 2 has the unknown role 'narrator'",
    )
    assert "has no role" in found(gate.one({"content": "q"}))["UNKNOWN_ROLE"][1]


def test_known_formats_are_clean(gate, found):
    share = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "system": "s", "id": 3}
    openai = {"messages": [{"role": "user", "content": "q2"}, {"role": "assistant", "content": "a", "weight": 1}]}
    first, second = gate.outcomes((json.dumps(share) + "\n" + json.dumps(openai)).encode())
    assert turns(first) == [("system", "s", None), ("user", "q", None), ("assistant", "a", None)]
    assert first.usable.conversation.metadata == {"id": 3}
    assert turns(second)[1] == ("assistant", "a", True)
    assert (found(first), found(second)) == ({}, {})


def test_system_in_metadata_is_no_instruction(gate):
    outcome = gate.one(("user", "q"), ("assistant", "a"), metadata={"system": "core banking"})
    assert [m.role for m in outcome.usable.conversation.messages] == ["user", "assistant"]


def test_function_calls_of_sharegpt(gate, found):
    row = {
        "conversations": [
            {"from": "human", "value": "q"},
            {"from": "function_call", "value": '{"name": "f", "arguments": {"x": 1.50}}'},
            {"from": "observation", "value": "r"},
            {"from": "gpt", "value": "a"},
        ]
    }
    (outcome,) = gate.outcomes(json.dumps(row).encode())
    assert found(outcome) == {}
    assert outcome.usable.conversation.messages[1].tool_calls[0]["function"] == {"name": "f", "arguments": {"x": 1.5}}
    (broken,) = gate.outcomes(json.dumps(row).replace("1.5", "oops").encode())
    assert found(broken)["TOOL_ARGS"][0] == "quarantined"


def test_content_types(gate, found):
    assert turns(gate.one(("user", True), ("assistant", "a")))[0][1] == "true"
    assert "NON_FINITE" in found(gate.one(("user", float("nan")), ("assistant", "a")))
    assert found(gate.one(("user", {"a": 1}), ("assistant", "a")))["TYPE"][0] == "quarantined"
    joined = gate.one(
        ("user", [{"type": "text", "text": "a"}, " b", {"type": "text", "value": "c"}]), ("assistant", "a")
    )
    assert turns(joined)[0][1] == "a bc"
    assert found(joined)["PARTS"] == ("repaired", "3 text parts of turn 1 joined")
    assert found(gate.one({"role": "user", "content": None}))["NULL_CONTENT"][0] == "quarantined"


def test_media_without_a_recipe_is_quarantined(gate, found):
    image = {"type": "image_url", "image_url": {"url": "x.png"}}
    assert "type 'image_url'" in found(gate.one(("user", [image]), ("assistant", "a")))["PARTS"][1]
    beside = gate.one(("user", "<image> what is it"), ("assistant", "a"), images=["x.png"])
    assert found(beside)["PARTS"] == ("quarantined", "the row has 'images', which needs a multimodal recipe")
    assert gate.one(("user", "q"), ("assistant", "a"), images=[]).action == "kept"


def test_unused_keys_are_said(gate, found):
    outcome = gate.one({"role": "user", "content": "q", "image": "x.png", "refusal": None}, ("assistant", "a"))
    assert found(outcome)["EXTRA_KEY"] == ("kept", "turn 1 has keys that are not used: image")


def test_length():
    rule = Length(LengthOptions())
    draft = Draft((Message(role="user", content="x" * 7998), Message(role="assistant", content="ab")), {})
    assert rule.apply(draft) is draft
    longer = draft.changed([*draft.turns, Message(role="user", content="y")])
    assert rule.apply(longer) == Rejection("TOO_LONG", "8001 characters, limit 8000", "x" * 40)
    call = Message(role="assistant", content=None, tool_calls=({"function": {"name": "f", "arguments": {}}},))
    assert "46 characters" in Length(LengthOptions(max_chars=45)).apply(Draft((call,), {})).reason


def test_duplicates_by_message_whatever_the_metadata(gate, found):
    rows = [
        {"conversation": [{"role": "user", "content": c}, {"role": "assistant", "content": "a"}], "metadata": {"n": n}}
        for n, c in enumerate(["q", "q\u200b", "Q"])
    ]
    outcomes = gate.outcomes("\n".join(json.dumps(row) for row in rows).encode())
    assert [outcome.action for outcome in outcomes] == ["kept", "quarantined", "kept"]
    assert found(outcomes[1])["DUPLICATE"] == ("quarantined", "the same messages as input.jsonl:1")
