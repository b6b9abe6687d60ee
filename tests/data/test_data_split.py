from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.core.chat import Conversation, Message
from tunewright.core.errors import ArtifactError
from tunewright.data.splits.assign import Member, assign, clustered, drawn, message_digest, question_digest

SHARES = {"train": 0.7, "test": 0.2, "validation": 0.1}


def members(n, group=lambda i: None, question=str):
    return [Member(b"d%04d" % i, question(i).encode(), group(i)) for i in range(n)]


@pytest.mark.parametrize("seed", range(5))
def test_shares_are_met_by_rows(seed):
    splits = Counter(assign(members(1000, lambda i: f"g{i // 7}"), SHARES, seed=seed))
    assert splits["test"] == pytest.approx(200, abs=7)
    assert splits["validation"] == pytest.approx(100, abs=7)


def test_chains_of_groups_and_questions_stay_together():
    # row i shares its group with i - 1 or its question with i + 1: blocks of six are one cluster
    rows = [Member(b"d%d" % i, b"q%d-%d" % (i // 6, (i % 6 + 1) // 2), f"g{i // 6}-{(i % 6) // 2}") for i in range(120)]
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
    digests = [b"d%d" % i for i in range(50)]
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


def test_digests_are_sixteen_bytes():
    row = _talk(("user", "a"), ("assistant", "b"))
    assert [len(digest) for digest in (message_digest(row), question_digest(row))] == [16, 16]


def test_near_duplicates_go_together():
    rows = clustered(members(200), {row: row // 4 * 4 for row in range(100)})
    splits = assign(rows, SHARES, seed=1)
    assert all(len(set(splits[start : start + 4])) == 1 for start in range(0, 100, 4))
    assert [row.cluster for row in rows[:5]] == [0, 0, 0, 0, 4]
    assert rows[100].cluster is None
    assert any(len(set(splits[start : start + 4])) > 1 for start in range(100, 200, 4))


KEYS = st.tuples(st.integers(0, 12), st.integers(0, 9), st.integers(0, 9), st.sampled_from([None, "a", "b", "c"]))


@settings(max_examples=150, deadline=None)
@given(st.lists(KEYS, min_size=1, max_size=60), st.integers(0, 5), st.booleans())
def test_nothing_that_is_connected_is_divided(keys, seed, has_strata):
    """Keys of 7 and more stand for no group and no cluster. Pairs of equal keys in one split: then chains are too."""
    rows = [
        Member(b"d%d" % number, b"q%d" % question, f"g{g}" if g < 7 else None, stratum if has_strata else None, c)
        for number, (question, g, cluster, stratum) in enumerate(keys)
        for c in [cluster if cluster < 7 else None]
    ]
    try:
        splits = assign(rows, SHARES, seed=seed)
    except ArtifactError:
        return
    for name in ("question", "group", "cluster"):
        found = defaultdict(set)
        for row, split in zip(rows, splits, strict=True):
            found[getattr(row, name)].add(split)
        assert all(len(names) == 1 for key, names in found.items() if key is not None), name
    assert set(splits) == set(SHARES)
    backward = assign(rows[::-1], SHARES, seed=seed)[::-1]
    assert backward == splits


def stratified(sizes, seed=7, shares=SHARES, group=lambda i: None):
    """{(split, stratum): rows} and {split: rows} for so many rows of each stratum."""
    strata = [name for name, size in sizes.items() for _ in range(size)]
    rows = [Member(b"d%d" % i, b"q%d" % i, group(i), name) for i, name in enumerate(strata)]
    splits = assign(rows, shares, seed=seed)
    return Counter(zip(splits, strata, strict=True)), Counter(splits)


@pytest.mark.parametrize("seed", range(3))
def test_every_split_holds_each_stratum_in_its_share(seed):
    found, _ = stratified({"a": 10, "b": 100, "c": 1000}, seed)
    assert found == {
        (name, stratum): round(share * size)
        for name, share in SHARES.items()
        for stratum, size in (("a", 10), ("b", 100), ("c", 1000))
    }


@pytest.mark.parametrize("seed", range(3))
def test_strata_are_rounded_so_that_the_splits_keep_their_share(seed):
    """77 strata of 3 rows: 2.1, 0.6 and 0.3 each; rounding every one down would leave the validation split empty."""
    sizes = {f"intent {i}": 3 for i in range(77)} | {f"large {i}": 13 + i for i in range(20)}
    found, total = stratified(sizes, seed)
    rows = sum(sizes.values())
    for name, share in SHARES.items():
        assert total[name] == pytest.approx(share * rows, abs=1.5)
        for stratum, size in sizes.items():
            assert share * size - 1 < found[name, stratum] < share * size + 1
            assert found[name, stratum] > 0 or share * size < 1


def test_clusters_of_a_stratum_are_placed_as_near_its_share_as_they_allow():
    found, _ = stratified({"a": 300, "b": 30}, group=lambda i: f"g{i // 5}")
    for name, share in SHARES.items():
        assert found[name, "a"] == pytest.approx(share * 300, abs=5)
        assert found[name, "b"] == pytest.approx(share * 30, abs=5)


def test_few_rows_with_strata_still_fill_every_split():
    assert set(stratified({"a": 3})[1]) == set(SHARES)
    assert set(stratified({"a": 1, "b": 1, "c": 1})[1]) == set(SHARES)
    with pytest.raises(ArtifactError, match="leave the validation split without a row"):
        stratified({"a": 2})


def test_rows_without_a_value_are_a_stratum_of_their_own():
    found, _ = stratified({"a": 100, None: 100})
    assert found["test", None] == found["test", "a"] == 20
