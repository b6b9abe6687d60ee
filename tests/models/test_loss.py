"""Packed loss and gradients against the plain padded path, both in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tunewright.models import packing
from tunewright.models.load import load_model
from tunewright.models.loss import mean_loss, packed_loss, padded_loss
from tunewright.models.packing import ATTENTION, computed_tokens, micro_batches, pack
from tunewright.models.tokens import IGNORED, Example


def examples() -> list[Example]:
    generator = torch.Generator().manual_seed(3)
    found = []
    for row, length in enumerate((5, 17, 9, 30, 12, 2)):
        ids = torch.randint(0, 259, (length,), generator=generator).tolist()
        labels = [IGNORED if i < 1 + length // 2 else token for i, token in enumerate(ids)]
        found.append(Example(tuple(ids), tuple(labels), str(row)))
    return found


@pytest.fixture
def model(tiny: Path) -> Any:
    return load_model(tiny, dtype=torch.float64)


def gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def with_prefixes() -> list[Example]:
    """The same rows behind seven common untrained tokens, three of them behind seven others; one row's answer starts
    right after them; one row shares nothing."""
    found = []
    for number, row in enumerate(examples()):
        start = (9, 8, 7, 6, 5, 4, 3) if number % 2 else (1, 2, 1, 2, 1, 2, 1)
        found.append(Example(start + row.input_ids, (IGNORED,) * 7 + row.labels, row.row_id))
    answer_first = Example((9, 8, 7, 6, 5, 4, 3, 50, 51), (*(IGNORED,) * 7, 50, 51), "answer first")
    return [*found, answer_first, examples()[1]]


@pytest.mark.parametrize("rows", [examples(), with_prefixes()], ids=["distinct", "shared starts"])
@pytest.mark.parametrize("products", [False, True], ids=["sdpa", "products"])
def test_packed_equals_padded_in_loss_and_every_gradient(
    model: Any, rows: list[Example], products: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """products: attention as it is computed in 16 bits on CPU, here in 64."""
    monkeypatch.setattr(packing, "_16_BIT", (torch.float64,) if products else ())
    plain_loss = padded_loss(model, rows)
    plain = gradients(model, plain_loss)
    model.set_attn_implementation(ATTENTION)
    loss = packed_loss(model, rows)
    packed = gradients(model, loss)
    # the loss itself is summed in float32 (as in training); gradients flow through float64
    assert loss.item() == pytest.approx(plain_loss.item(), rel=1e-6)
    for name, gradient in plain.items():
        assert torch.allclose(packed[name], gradient, rtol=1e-4, atol=1e-7 * float(gradient.abs().max() + 1)), name


def test_a_shared_start_is_computed_once() -> None:
    rows = with_prefixes()
    whole = sum(len(row.input_ids) for row in rows)
    saved = 7 * (4 - 1) + 7 * (3 - 1)
    assert pack(rows, torch.device("cpu")).input_ids.shape[1] == whole - saved
    assert computed_tokens(rows, max_tokens=1000, share_prefix=True) == whole - saved
    assert computed_tokens(rows, max_tokens=1000, share_prefix=False) == whole
    assert pack(rows, torch.device("cpu"), share_prefix=False).input_ids.shape[1] == whole
    assert pack(examples(), torch.device("cpu")).input_ids.shape[1] == sum(len(row.input_ids) for row in examples())


def test_a_packed_row_does_not_see_its_neighbour(model: Any) -> None:
    rows = examples()
    model.set_attn_implementation(ATTENTION)
    alone = packed_loss(model, rows[3:4]).item()
    with_neighbours = (packed_loss(model, rows) - packed_loss(model, rows[:3] + rows[4:])).item()
    assert with_neighbours == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize("limit", [8, 31, 64, 1000])
@pytest.mark.parametrize("share", [False, True])
def test_grouping_changes_nothing(model: Any, limit: int, share: bool) -> None:
    """The step's loss and gradient are the same for every micro-batch size; no group computes more than the limit."""
    rows = with_prefixes() if share else examples()
    groups = micro_batches(rows, max_tokens=limit, share_prefix=share)
    assert sorted(row.row_id for group in groups for row in group) == sorted(row.row_id for row in rows)
    sizes = [computed_tokens(group, max_tokens=10**9, share_prefix=share) for group in groups]
    assert all(len(group) == 1 or size <= limit for group, size in zip(groups, sizes, strict=True))
    assert len(groups) <= len(micro_batches(rows, max_tokens=limit))
    model.set_attn_implementation(ATTENTION)
    parts = sum(packed_loss(model, group).item() for group in groups)
    assert parts == pytest.approx(packed_loss(model, rows).item(), rel=1e-6)


def test_mean_loss_is_transformers_loss_and_restores_the_attention(model: Any) -> None:
    row = examples()[3]
    expected = model(input_ids=torch.tensor([row.input_ids]), labels=torch.tensor([row.labels])).loss
    found, count = mean_loss(model, [row])
    assert found == pytest.approx(float(expected.detach()), rel=1e-5)
    assert count == row.trained == 14
    assert model.config._attn_implementation == "sdpa"


def test_an_evaluation_before_it_does_not_break_the_training(model: Any) -> None:
    """The mask of a shared start is made once, here by an evaluation that records no gradients."""
    model.set_attn_implementation(ATTENTION)
    rows = with_prefixes()
    with torch.inference_mode():
        before = packed_loss(model, rows)
    loss = packed_loss(model, rows)
    assert loss.item() == pytest.approx(float(before))
    assert any(gradient.abs().sum() > 0 for gradient in gradients(model, loss).values())


def test_the_switch_takes_torchs_attention(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(tiny, dtype=torch.bfloat16)
    used: list[int] = []
    products = packing.packed_attention
    monkeypatch.setattr(packing, "packed_attention", lambda *states: (used.append(1), products(*states))[1])
    losses = {}
    for name in (packing.ATTENTION, packing.ATTENTION_SDPA):
        model.set_attn_implementation(name)
        losses[name] = packed_loss(model, examples()).item()
        assert len(used) == 2, "once in each of two layers, and not with the switch"
    assert losses[packing.ATTENTION] == pytest.approx(losses[packing.ATTENTION_SDPA], rel=1e-3)
