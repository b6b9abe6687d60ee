from __future__ import annotations

from collections import Counter

import pytest

from tunewright.core.chat import Conversation, Message
from tunewright.core.errors import ArtifactError
from tunewright.data.splits.assign import Member, assign, drawn, leakage, message_digest, question_digest

SHARES = {"train": 0.7, "test": 0.2, "validation": 0.1}


def members(n, group=lambda i: None, question=str):
    return [Member(f"d{i:04d}", question(i), group(i)) for i in range(n)]


@pytest.mark.parametrize("seed", range(5))
def test_shares_are_met_by_rows(seed):
    splits = Counter(assign(members(1000, lambda i: f"g{i // 7}"), SHARES, seed=seed))
    assert splits["test"] == pytest.approx(200, abs=7)
    assert splits["validation"] == pytest.approx(100, abs=7)


def test_chains_of_groups_and_questions_stay_together():
    # row i shares its group with i - 1 or its question with i + 1: blocks of six are one cluster
    rows = [Member(f"d{i}", f"q{i // 6}-{(i % 6 + 1) // 2}", f"g{i // 6}-{(i % 6) // 2}") for i in range(120)]
    splits = assign(rows, SHARES, seed=3)
    assert all(len(set(splits[start : start + 6])) == 1 for start in range(0, 120, 6))
    assert len(set(splits)) == 3


def test_content_decides_not_the_order_or_the_file():
    rows = members(200)
    forward = dict(zip([row.digest for row in rows], assign(rows, SHARES, seed=7), strict=True))
    backward = dict(zip([row.digest for row in rows[::-1]], assign(rows[::-1], SHARES, seed=7), strict=True))
    assert forward == backward
    assert forward != dict(zip(forward, assign(rows, SHARES, seed=8), strict=True))


def test_every_wanted_split_gets_a_row_or_an_error():
    assert set(assign(members(3), SHARES, seed=1)) == {"train", "test", "validation"}
    assert set(assign(members(50), {"train": 0.9, "validation": 0.1, "test": 0}, seed=1)) == {"train", "validation"}
    with pytest.raises(ArtifactError, match=r"2 usable row\(s\) in 2 group\(s\) leave the validation split"):
        assign(members(2), SHARES, seed=1)


def test_draw_is_seeded_and_ignores_order():
    digests = [f"d{i}" for i in range(50)]
    taken = {digests[i] for i in drawn(digests, 10, seed=7)}
    assert len(taken) == 10
    assert taken == {digests[::-1][i] for i in drawn(digests[::-1], 10, seed=7)}
    assert taken != {digests[i] for i in drawn(digests, 10, seed=8)}
    assert drawn(digests, None, seed=7) == drawn(digests, 50, seed=7) == set(range(50))


def _talk(*turns):
    return Conversation(id="x", messages=tuple(Message(role=role, content=text) for role, text in turns))


def test_questions_are_compared_without_case_width_and_spaces():
    plain = question_digest(_talk(("user", "Card ABC 12"), ("assistant", "x")))
    assert plain == question_digest(_talk(("system", "s"), ("user", " card  ＡＢＣ\n１２ "), ("assistant", "y")))
    assert plain != question_digest(_talk(("user", "Card ABC 13"), ("assistant", "x")))
    follow_up = (("user", "hi"), ("assistant", "which card?"), ("user", "Card ABC 12"), ("assistant", "x"))
    assert plain != question_digest(_talk(*follow_up))


def test_messages_are_compared_exactly():
    assert message_digest(_talk(("user", "a"), ("assistant", "b"))) != message_digest(
        _talk(("user", "A"), ("assistant", "b"))
    )
    assert message_digest(_talk(("user", "a\x1fb"))) != message_digest(_talk(("user", "a"), ("user", "b")))


def test_leakage_counts_rows_of_the_other_split():
    train = members(5, lambda i: "g")
    other = [Member("a", "0"), Member("b", "0", "g"), Member("c", "9", "h")]
    assert leakage(train, other) == {"exact": 2, "groups": 1}
