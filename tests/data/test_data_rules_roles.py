"""Other inputs of the kinds 01 (odd turns), 02 (assistant first), 03 (empty answer) and 06 (same role twice)."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.core.chat import Message
from tunewright.data.draft import Draft
from tunewright.data.findings import Rejection
from tunewright.data.rules.options import RolesOptions, TextOptions
from tunewright.data.rules.roles import Roles, check_targets, is_blank
from tunewright.data.rules.text import Text

CALL = ({"type": "function", "function": {"name": "f", "arguments": {}}},)
ROLES = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}


def conversation(words):
    """`u:hi a: m:x c t:1` by first letter: s system, u user, a assistant, m masked assistant, c tool call, t tool."""
    turns = []
    for word in words.split():
        kind, _, content = word.partition(":")
        role = ROLES.get(kind, "assistant")
        text = None if kind == "c" else content.replace("_", " ")
        calls = CALL if kind == "c" else ()
        turns.append(Message(role=role, content=text, train=False if kind == "m" else None, tool_calls=calls))
    return Draft(tuple(turns), {})


def shown(draft):
    letters = []
    for turn in draft.turns:
        kind = "c" if turn.tool_calls else "m" if turn.train is False else turn.role[0]
        letters.append(kind if turn.content is None else f"{kind}:{turn.content}".replace("\n", "|").replace(" ", "_"))
    return " ".join(letters)


CASES = [
    ("u:q a:a", "u:q a:a", {}),
    ("s:s u:q a:a", "s:s u:q a:a", {}),
    # 01: what stands behind the last answer
    ("u:q a:a u:x", "u:q a:a", {"DANGLING_USER": "repaired"}),
    ("u:q a:a u:x u:y", "u:q a:a", {"DANGLING_USER": "repaired", "SAME_ROLE": "repaired"}),
    ("u:q c t:1 a:a u:x", "u:q c t:1 a:a", {"DANGLING_USER": "repaired"}),
    ("u:q c t:1 u:x", "u:q c t:1", {"DANGLING_USER": "repaired"}),
    ("u:q a:a s:s u:x", "u:q a:a", {"DANGLING_USER": "repaired", "SYSTEM_MID": "repaired"}),
    ("u:q a:a u:x s:s", "u:q a:a", {"DANGLING_USER": "repaired", "SYSTEM_MID": "repaired"}),
    ("u:q a:a c", "u:q a:a c", {}),
    # 02: what stands before the first question
    ("a:hi u:q a:a", "m:hi u:q a:a", {"FIRST_ASSISTANT": "kept"}),
    ("s:s a:hi u:q a:a", "s:s m:hi u:q a:a", {"FIRST_ASSISTANT": "kept"}),
    ("a:hi a:there u:q a:a", "m:hi|there u:q a:a", {"FIRST_ASSISTANT": "kept", "SAME_ROLE": "repaired"}),
    ("m:hi u:q a:a", "m:hi u:q a:a", {}),
    ("m:hi a:there u:q a:a", "m:hi|there u:q a:a", {"FIRST_ASSISTANT": "kept", "SAME_ROLE": "repaired"}),
    ("a:hi s:s u:q a:a", "m:hi u:s|q a:a", {"FIRST_ASSISTANT": "kept", "SYSTEM_MID": "repaired"}),
    ("a:hi u:q a:a u:x", "m:hi u:q a:a", {"FIRST_ASSISTANT": "kept", "DANGLING_USER": "repaired"}),
    # 03: empty answers beside others
    ("u:q a: u:r a:a", "u:q m: u:r a:a", {"EMPTY_TARGET": "repaired"}),
    ("u:q a:a u:r a:_", "u:q a:a u:r m:_", {"EMPTY_TARGET": "repaired"}),
    ("u:q a: a:a", "u:q a:a", {"SAME_ROLE": "repaired"}),
    ("u:q a:a a:\u200b", "u:q a:a", {"SAME_ROLE": "repaired"}),
    ("u:q m: u:r a:a", "u:q m: u:r a:a", {}),
    # 06: neighbours of one role
    ("u:a u:b u:c a:d a:e", "u:a|b|c a:d|e", {"SAME_ROLE": "repaired"}),
    ("s:a s:b u:q a:a", "s:a|b u:q a:a", {"SAME_ROLE": "repaired"}),
    ("u:q c c t:1 t:2 a:a", "u:q c c t:1 t:2 a:a", {}),
    ("u:q a:wait c t:1 a:a", "u:q a:wait c t:1 a:a", {}),
    ("u:q c a:a", "u:q c a:a", {}),
    ("u:q m:x m:y u:r a:a", "u:q m:x|y u:r a:a", {"SAME_ROLE": "repaired"}),
    ("u:q m:x a:y", "u:q m:x a:y", {"SAME_ROLE": "kept"}),
    ("u:q a:a s:s u:r a:b", "u:q a:a u:s|r a:b", {"SYSTEM_MID": "repaired"}),
    ("u:p s:s u:q a:a", "u:p|s|q a:a", {"SYSTEM_MID": "repaired", "SAME_ROLE": "repaired"}),
    ("s: u:q a:a", "u:q a:a", {"EMPTY_SYSTEM": "repaired"}),
    ("u:q a:a s:_ u:r a:b", "u:q a:a u:r a:b", {"EMPTY_SYSTEM": "repaired"}),
]
REJECTED = [
    ("u:q a:", "EMPTY_TARGET", "assistant turn 2 is empty and no other turn is trained"),
    ("u:q a:\u200b\ufeff", "EMPTY_TARGET", "assistant turn 2 is empty and no other turn is trained"),
    ("u:q", "EMPTY_TARGET", "the row has no assistant turn"),
    ("s:s", "EMPTY_TARGET", "the row has no assistant turn"),
    ("a:hi", "ALL_MASKED", "no assistant turn of the row is trained"),
    ("s:s a:hi", "ALL_MASKED", "no assistant turn of the row is trained"),
    ("u:q m:a", "ALL_MASKED", "no assistant turn of the row is trained"),
    ("a:hi u:q", "ALL_MASKED", "no assistant turn of the row is trained"),
    ("a:hi u:q a:", "EMPTY_TARGET", "assistant turn 3 is empty and no other turn is trained"),
    ("u: a:a", "EMPTY_INPUT", "user turn 1 is empty"),
    ("u:q a:a u:_ a:b", "EMPTY_INPUT", "user turn 3 is empty"),
    ("u:\u200b u:q a:a", "EMPTY_INPUT", "user turn 1 is empty"),
    ("u:q a:a u:\u3000", "EMPTY_INPUT", "user turn 3 is empty"),
]


@pytest.mark.parametrize(("words", "expected", "codes"), CASES)
def test_repaired(words, expected, codes):
    done = Roles(RolesOptions()).apply(conversation(words))
    assert shown(done) == expected
    worst = {}
    for note in done.notes:
        worst[note.code] = "repaired" if "repaired" in (note.action, worst.get(note.code)) else note.action
    assert worst == codes
    assert all(note.reason for note in done.notes)


@pytest.mark.parametrize(("words", "code", "reason"), REJECTED)
def test_rejected(words, code, reason):
    found = Roles(RolesOptions()).apply(conversation(words))
    assert isinstance(found, Rejection)
    assert (found.code, found.reason) == (code, reason)


def test_reasons_name_the_turn_of_the_source():
    done = Roles(RolesOptions()).apply(conversation("a:hi u:a u:b a:c u:d"))
    assert [note.reason for note in done.notes] == [
        "first turn by the assistant: context, not trained",
        "user turn 3 merged with the one before",
        "last user turn without an answer cut",
    ]


def test_blank_is_what_nobody_can_see():
    assert is_blank(Message(role="user", content="\u200b \n\u2060"))
    assert not is_blank(Message(role="assistant", content=None, tool_calls=CALL))
    assert not is_blank(Message(role="user", content="0"))


@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(["s:s", "u:q", "u:x", "a:a", "a:", "m:m", "c", "t:1", "s:"]), min_size=1, max_size=10))
def test_every_usable_row_can_be_trained_and_is_stable(words):
    draft = conversation(" ".join(words))
    done = Roles(RolesOptions()).apply(draft)
    if isinstance(done, Rejection):
        assert done.reason
        return
    turns = done.turns
    assert any(turn.trained for turn in turns)
    assert not any(turn.trained and is_blank(turn) for turn in turns)
    assert turns[-1].role != "user"
    assert all(turn.role != "system" for turn in turns[1:])
    first_user = next(index for index, turn in enumerate(turns) if turn.role == "user")
    assert not any(turn.trained for turn in turns[:first_user])
    for before, turn in pairwise(turns):
        plain = not (before.tool_calls or turn.tool_calls) and turn.role != "tool"
        assert not (plain and before.role == turn.role and before.trained == turn.trained and not is_blank(turn))
    again = Roles(RolesOptions()).apply(done)
    assert again.turns == turns
    kept = "".join(turn.content or "" for turn in turns if turn.role == "assistant" and turn.trained)
    source = "".join(turn.content or "" for turn in draft.turns if turn.role == "assistant" and turn.trained)
    assert set(kept.replace("\n", "")) <= set(source)


def test_cleaning_after_the_roles_may_empty_a_turn():
    aggressive = Text(TextOptions(preset="aggressive"))
    done = aggressive.apply(Roles(RolesOptions()).apply(conversation("u:q a:？！ u:r a:a")))
    assert shown(check_targets(done)) == "u:q m: u:r a:a"
    assert check_targets(aggressive.apply(conversation("u:？ a:a"))).code == "EMPTY_INPUT"
