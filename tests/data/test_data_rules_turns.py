from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.core.chat import Message
from tunewright.data.draft import Draft, SampleRule
from tunewright.data.findings import Note
from tunewright.data.rules.options import TurnsOptions
from tunewright.data.rules.turns import Turns

CALL = ({"type": "function", "function": {"name": "f", "arguments": {}}},)
ROLES = {"s": "system", "u": "user", "a": "assistant", "m": "assistant", "c": "assistant", "t": "tool"}


def conversation(letters):
    """s system, u user, a assistant, m masked assistant, c tool call, t tool; content is letter and place."""
    turns = []
    for place, letter in enumerate(letters):
        content = None if letter == "c" else f"{letter}{place}"
        calls = CALL if letter == "c" else ()
        turns.append(
            Message(role=ROLES[letter], content=content, train=False if letter == "m" else None, tool_calls=calls)
        )
    return Draft(tuple(turns), {"k": 1})


def shown(draft):
    """Places of the source's turns, the trained one in brackets."""
    words = [turn.content or "call" for turn in draft.turns]
    return " ".join(f"[{word}]" if turn.trained else word for word, turn in zip(words, draft.turns, strict=True))


@pytest.mark.parametrize(
    ("letters", "keep", "expected"),
    [
        ("ua", 3, ["u0 [a1]"]),
        ("uauaua", 0, ["u0 [a1]", "u2 [a3]", "u4 [a5]"]),
        ("uauaua", 1, ["u0 [a1]", "u0 a1 u2 [a3]", "u2 a3 u4 [a5]"]),
        ("uauauauaua", 3, [
            "u0 [a1]", "u0 a1 u2 [a3]", "u0 a1 u2 a3 u4 [a5]", "u0 a1 u2 a3 u4 a5 u6 [a7]", "u2 a3 u4 a5 u6 a7 u8 [a9]",
        ]),
        ("suaua", 0, ["s0 u1 [a2]", "s0 u3 [a4]"]),
        ("suaua", 1, ["s0 u1 [a2]", "s0 u1 a2 u3 [a4]"]),
        ("uctaua", 0, ["u0 [call]", "u0 call t2 [a3]", "u4 [a5]"]),
        ("uctaua", 1, ["u0 [call]", "u0 call t2 [a3]", "u0 call t2 a3 u4 [a5]"]),
        ("muaua", 3, ["u1 [a2]", "u1 a2 u3 [a4]"]),
        ("smuaua", 1, ["s0 u2 [a3]", "s0 u2 a3 u4 [a5]"]),
        ("umua", 1, ["u0 m1 u2 [a3]"]),
        ("uuaua", 0, ["u0 u1 [a2]", "u3 [a4]"]),
        ("uaau", 1, ["u0 [a1]", "u0 a1 [a2]"]),
        ("um", 1, ["u0 m1"]),
    ],
)  # fmt: skip
def test_samples(letters, keep, expected):
    assert [shown(sample) for sample in Turns(TurnsOptions(keep_turns=keep)).samples(conversation(letters))] == expected


def test_without_keep_turns_the_row_stays_one_sample():
    draft = conversation("suauaua")
    assert Turns(TurnsOptions()).samples(draft) == [draft]
    assert isinstance(Turns(TurnsOptions()), SampleRule)


def test_notes_and_tallies_go_with_the_first_sample_only():
    draft = conversation("uaua").noted(Note("X", "kept", "x")).tallied({"n": 2})
    first, second = Turns(TurnsOptions(keep_turns=3)).samples(draft)
    assert (first.notes, first.tallies) == (draft.notes, {"n": 2})
    assert (second.notes, second.tallies, second.masked) == ((), {}, ())
    assert first.metadata == second.metadata == {"k": 1}


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text("uauamct", min_size=1, max_size=14), st.booleans(), st.integers(0, 4))
def test_every_trained_turn_is_trained_once_with_enough_context(letters, with_system, keep):
    draft = conversation(("s" if with_system else "") + letters)
    samples = Turns(TurnsOptions(keep_turns=keep)).samples(draft)
    trained = [turn for turn in draft.turns if turn.trained]
    assert [turn for sample in samples for turn in sample.turns if turn.trained] == trained
    for sample in samples if trained else []:
        users = [index for index, turn in enumerate(sample.turns) if turn.role == "user"]
        questions = [i for i in users if i == 0 or sample.turns[i - 1].role != "user"]
        assert len(questions) <= keep + 1
        assert sample.turns[-1].trained
        assert (sample.turns[0].role == "system") == with_system
        if users and draft.turns.index(sample.turns[-1]) > next(
            i for i, turn in enumerate(draft.turns) if turn.role == "user"
        ):
            assert sample.turns[int(with_system)].role == "user"


def test_keep_turns_is_no_negative_number():
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        TurnsOptions(keep_turns=-1)
