"""What is not as planned is refused before the first step, with the reason."""

from __future__ import annotations

import pytest
import torch

from tunewright.train.sharding.proof import NotAsPlanned, check_held, check_ranks, check_shares, digest
from tunewright.train.sharding.strategy import Held

ALL = frozenset({"trained", "frozen", "optimizer"})
WEIGHTS = {"trained": 100_000, "frozen": 900_000, "optimizer": 100_000}


def test_good_ranks_pass() -> None:
    check_ranks([(1, "a:1"), (0, "a:0")], size=2)
    check_shares([[3, 1], [2]], [[[3], []], [[1], [2]]])
    check_held([Held(50_010, 450_000, 50_000)] * 2, weights=WEIGHTS, divides=ALL, tensors=20)
    check_held([Held(100_000, 900_000, 100_000)] * 2, weights=WEIGHTS, divides=frozenset(), tensors=20)


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        ([(0, "a:0"), (0, "a:1")], r"the ranks are \[0, 0\], not 0 to 1"),
        ([(0, "a:0"), (1, "a:0")], "two ranks are on the same device"),
    ],
)
def test_ranks_that_are_not_there_once_are_refused(seen: list[tuple[int, str]], reason: str) -> None:
    with pytest.raises(NotAsPlanned, match=rf"{reason}; stopped before the first step"):
        check_ranks(seen, size=2)


@pytest.mark.parametrize(
    ("shares", "reason"),
    [
        ([[[3, 1], [2]], [[3, 1], [2]]], "step 1 would have row 1 on more than one rank"),
        ([[[3], [2]], [[], []]], "step 1 would have rows that no rank computes"),
        ([[[3, 1], [2]], [[]]], "step 1 would have rows that no rank computes"),
    ],
    ids=["every rank trains the same rows", "a row is missing", "a rank has another plan"],
)
def test_rows_that_are_not_disjoint_are_refused(shares: list[list[list[int]]], reason: str) -> None:
    with pytest.raises(NotAsPlanned, match=reason):
        check_shares([[3, 1], [2]], shares)


def test_whole_weights_where_divided_ones_were_planned_are_refused() -> None:
    """What Trainer does on CPU with `fsdp` set: it trains DDP and says nothing."""
    with pytest.raises(NotAsPlanned, match=r"2 ranks hold 200,000 elements of 'trained', and 100,000 were planned"):
        check_held([Held(100_000, 900_000, 100_000)] * 2, weights=WEIGHTS, divides=ALL, tensors=20)
    with pytest.raises(
        NotAsPlanned, match=r"hold 50,000 elements of 'optimizer', and 100,000 were planned \(divided\)"
    ):
        held = [Held(100_000, 900_000, 50_000), Held(100_000, 900_000, 0)]
        check_held(held, weights=WEIGHTS, divides=frozenset({"optimizer"}), tensors=20)


def test_the_digest_sees_one_changed_weight() -> None:
    before = {"a": torch.arange(6, dtype=torch.bfloat16), "b": torch.ones(2)}
    after = {"b": torch.ones(2), "a": before["a"].clone()}
    assert digest(before) == digest(after)
    after["a"][3] += 1
    assert digest(before) != digest(after)
