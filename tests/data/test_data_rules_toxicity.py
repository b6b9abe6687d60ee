"""The rule `toxicity`: whose turns, what it says, what it does."""

from __future__ import annotations

import pytest

from tunewright.core.chat import Message
from tunewright.data.draft import Draft
from tunewright.data.findings import Note, Rejection
from tunewright.data.rules.options import ToxicityOptions
from tunewright.data.rules.toxicity import Toxicity

INSULT = "Shut up, you stupid idiot."


def draft(*turns):
    return Draft(tuple(Message(role=role, content=content) for role, content in turns), {})


def judge(given, **options):
    return Toxicity(ToxicityOptions(**options)).apply(given)


def test_a_toxic_answer_is_reported_with_its_turn_and_probability():
    done = judge(draft(("user", "Where is my refund?"), ("assistant", INSULT)))
    (note,) = done.notes
    assert (note.code, note.action) == ("TOXIC", "kept")
    assert note.reason == "turn 2 is toxic with p 1.00, limit 0.5"
    assert note.excerpt == "shut up, you stupid idiot."
    assert dict(done.tallies) == {"toxicity.turns": 1}


def test_a_toxic_answer_is_quarantined_where_that_is_asked_for():
    done = judge(draft(("user", "退款呢？"), ("assistant", "滚，你这个傻逼")), action="quarantine")
    assert isinstance(done, Rejection)
    assert done.code == "TOXIC" and done.reason.startswith("turn 2 is toxic")


def test_a_rude_user_is_let_through_unless_asked_for():
    given = draft(("user", INSULT), ("assistant", "I am sorry that you are upset."))
    assert judge(given) is given
    assert judge(given, roles=("user",)).notes[0].reason.startswith("turn 1 is toxic")


def test_the_worst_of_several_turns_is_named():
    given = draft(("user", "a"), ("assistant", "This sucks."), ("user", "b"), ("assistant", INSULT * 3))
    (note,) = judge(given, threshold=0.3).notes
    assert note.reason.startswith("turn 4 ") and note.reason.endswith("limit 0.3 (2 such turns)")


@pytest.mark.parametrize("threshold", [0.2, 1.0])
def test_the_threshold_decides(threshold):
    given = draft(("user", "q"), ("assistant", "Your service is terrible."))
    assert bool(judge(given, threshold=threshold).notes) == (threshold < 0.5)


def test_the_finding_is_one_note_of_the_registry():
    assert isinstance(judge(draft(("user", "q"), ("assistant", INSULT))).notes[0], Note)


def test_clean_rows_and_turns_without_text_stay_as_they_are():
    for given in (draft(("user", "你好"), ("assistant", "您好，请问有什么可以帮您？")), draft(), draft(("user", ""))):
        assert judge(given) is given
