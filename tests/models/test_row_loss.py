"""The loss of each row: packed equal to plain, in the rows' own order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tunewright.models.load import load_model
from tunewright.models.loss import mean_loss
from tunewright.models.row_loss import row_losses
from tunewright.models.tokens import IGNORED, Example


@pytest.fixture
def model(tiny: Path) -> Any:
    return load_model(tiny, dtype=torch.float64)


def rows() -> list[Example]:
    """Lengths that differ, a start that four rows share, one row twice."""
    generator = torch.Generator().manual_seed(11)
    found = []
    for row, length in enumerate((5, 17, 9, 30, 12, 3)):
        ids = torch.randint(0, 259, (length,), generator=generator).tolist()
        start = [9, 8, 7, 6, 5, 4, 3] if row % 3 else []
        labels = [IGNORED if i < 1 + length // 2 else token for i, token in enumerate(ids)]
        found.append(Example((*start, *ids), (*[IGNORED] * len(start), *labels), str(row)))
    return [*found, found[1]]


@pytest.mark.parametrize("limit", [8, 40, 1000])
def test_packed_rows_have_the_plain_rows_losses_in_their_order(model: Any, limit: int) -> None:
    plain = row_losses(model, rows(), packed=False)
    packed = row_losses(model, rows(), tokens_per_batch=limit)
    assert packed == pytest.approx(plain, rel=1e-6)
    assert len({round(loss, 6) for loss in plain}) == len(plain) - 1, "every row has a loss of its own"
    assert model.config._attn_implementation == "sdpa"


def test_a_rows_loss_is_transformers_loss_times_its_labels(model: Any) -> None:
    row = rows()[3]
    expected = model(input_ids=torch.tensor([row.input_ids]), labels=torch.tensor([row.labels])).loss.item()
    assert row_losses(model, [row]) == pytest.approx([expected * row.trained], rel=1e-6)


def test_the_sum_of_the_rows_is_the_mean_loss(model: Any) -> None:
    mean, count = mean_loss(model, rows())
    assert sum(row_losses(model, rows())) / count == pytest.approx(mean, rel=1e-6)
