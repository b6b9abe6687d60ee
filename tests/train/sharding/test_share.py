"""The shares of a step: disjoint, complete, balanced, and together the same gradient as one process."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tunewright.models.load import load_model
from tunewright.models.loss import padded_loss
from tunewright.models.tokens import IGNORED, Example
from tunewright.train.sharding.share import deal, micro_batches_of, shares_of


def row(number: int, length: int, trained: int) -> Example:
    generator = torch.Generator().manual_seed(number)
    ids = torch.randint(0, 250, (length,), generator=generator).tolist()
    return Example(tuple(ids), (IGNORED,) * (length - trained) + tuple(ids[-trained:]), f"row:{number}")


def rows() -> list[Example]:
    """Nine rows with 2 to 18 trained tokens: a rank that weighted by its own tokens would be far off."""
    return [row(number, 8 + 5 * number, 2 * number + 2) for number in range(9)]


@given(st.lists(st.integers(1, 500), min_size=1, max_size=40), st.integers(1, 8))
def test_dealt_rows_are_disjoint_complete_and_balanced(sizes: list[int], ranks: int) -> None:
    shares = deal(sizes, ranks)
    assert sorted(chain.from_iterable(shares)) == list(range(len(sizes)))
    tokens = [sum(sizes[i] for i in share) for share in shares]
    assert max(tokens) - min(tokens) <= max(sizes), "longest first keeps ranks within one row of each other"


def test_one_rank_has_the_step_as_it_is() -> None:
    assert shares_of(rows(), 1) == [rows()]


def test_every_rank_computes_as_often_and_repeats_with_no_weight() -> None:
    """Nine rows for four ranks in batches of one row: 3, 2, 2, 2 would hang where weights are sharded."""
    found = [micro_batches_of(rows(), rank=rank, ranks=4, max_tokens=1) for rank in range(4)]
    assert [len(groups) for groups in found] == [3, 3, 3, 3]
    counted = [example for groups in found for group in groups if group.counts for example in group.rows]
    assert sorted(example.row_id for example in counted) == sorted(example.row_id for example in rows())


def test_a_rank_without_rows_still_computes() -> None:
    one = [row(0, 9, 3)]
    assert [[g.counts for g in micro_batches_of(one, rank=r, ranks=3, max_tokens=99)] for r in range(3)] == [
        [True],
        [False],
        [False],
    ]


@pytest.fixture
def model(tiny: Path) -> Iterator[Any]:
    yield load_model(tiny, dtype=torch.float64)


def gradient(model: Any, parts: list[tuple[list[Example], float]]) -> torch.Tensor:
    model.zero_grad()
    for group, weight in parts:
        (padded_loss(model, group) * weight).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_the_ranks_together_have_the_gradient_of_one_process(model: Any, ranks: int) -> None:
    """In float64, where the order of sums hardly matters; the loss itself is taken in float32 (2e-7 relative seen)."""
    count = sum(example.trained for example in rows())
    alone = gradient(model, [(rows(), 1 / count)])
    parts = [
        [
            (g.rows, ranks / count if g.counts else 0.0)
            for g in micro_batches_of(rows(), rank=rank, ranks=ranks, max_tokens=60)
        ]
        for rank in range(ranks)
    ]
    averaged = torch.stack([gradient(model, each) for each in parts]).mean(0)
    assert float((averaged - alone).norm() / alone.norm()) < 2e-6
    mean_of_means = torch.stack(
        [gradient(model, [(share, 1 / sum(e.trained for e in share))]) for share in shares_of(rows(), ranks)]
    ).mean(0)
    assert float((mean_of_means - alone).norm() / alone.norm()) > 1e-2, "each rank's own mean is another loss"
