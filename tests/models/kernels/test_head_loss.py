"""The output layer's loss in pieces against torch's cross entropy, loss and gradients in fp64."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tunewright.models.kernels import head_loss
from tunewright.models.load import load_model
from tunewright.models.loss import packed_loss
from tunewright.models.packing import ATTENTION, PLAIN
from tunewright.models.tokens import Example


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("count", [1, 127, 300])
@pytest.mark.parametrize("trains", ["hidden", "weight", "both"])
def test_loss_and_gradients_in_pieces(count: int, smoothing: float, trains: str) -> None:
    generator = torch.Generator().manual_seed(1)
    hidden, weight = (torch.randn(size, 16, dtype=torch.float64, generator=generator) for size in (count, 50))
    targets = torch.randint(0, 50, (count,), generator=generator)
    found = []
    for in_pieces in (True, False):
        states = hidden.clone().requires_grad_(trains != "weight")
        head = nn.Linear(16, 50, bias=False, dtype=torch.float64)
        head.weight = nn.Parameter(weight.clone(), requires_grad=trains != "hidden")
        if in_pieces:
            loss = head_loss.head_loss(states, head, targets, smoothing)
        else:
            loss = cross_entropy(head(states), targets, reduction="sum", label_smoothing=smoothing)
        (loss * 0.25).backward()
        found.append([loss.detach().double(), *(one.grad for one in (states, head.weight) if one.requires_grad)])
    for own, plain in zip(*found, strict=True):
        assert own is not None and plain is not None and torch.allclose(own, plain, rtol=1e-6, atol=1e-9)


def test_nothing_is_kept_for_gradients_that_nobody_asks_for() -> None:
    head = nn.Linear(16, 50, bias=False)
    with torch.no_grad():
        assert not head_loss.head_loss(torch.randn(3, 16), head, torch.tensor([1, 2, 3])).requires_grad


def test_what_is_computed_in_pieces() -> None:
    """A layer trained in float32 is multiplied in 16 bits under autocast: rounded once, not once a piece."""

    class Model(nn.Module):
        def __init__(self, dtype: torch.dtype, trained: bool) -> None:
            super().__init__()
            self.head = nn.Linear(4, 8, bias=False, dtype=dtype).requires_grad_(trained)

        def get_output_embeddings(self) -> nn.Module:
            return self.head

    for dtype, trained, wanted in [
        (torch.float32, False, True),
        (torch.bfloat16, False, True),
        (torch.bfloat16, True, True),
        (torch.float32, True, False),
    ]:
        model = Model(dtype, trained)
        head_loss.cut_head(model)
        assert (head_loss.head_in_pieces(model) is not None) == wanted
        wrapped = nn.Module()
        wrapped.module = model
        assert (head_loss.head_in_pieces(wrapped) is not None) == (not trained), "several devices watch its gradient"


def test_a_frozen_head_is_left_out_of_the_packed_loss_and_a_trained_one_is_not(tiny: Path) -> None:
    rows = [Example(tuple(range(n, n + 20)), (-100,) * 8 + tuple(range(n + 8, n + 20)), str(n)) for n in (5, 90)]
    losses, found = [], []
    for cut in (False, True):
        model = load_model(tiny, dtype=torch.float64)
        model.set_attn_implementation(ATTENTION)
        model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone(), requires_grad=False)  # not tied
        if cut:
            head_loss.cut_head(model)
        assert (head_loss.head_in_pieces(model) is not None) is cut
        loss = packed_loss(model, rows, label_smoothing=0.05)
        loss.backward()
        losses.append(loss.item())
        found.append(model.model.layers[0].self_attn.q_proj.weight.grad)
        model.set_attn_implementation(PLAIN)
        logits = model(input_ids=torch.zeros(1, 3, dtype=torch.long)).logits
        assert logits.shape == (1, 3, 259), "outside the loss, logits are logits"
        model.lm_head.weight.requires_grad_(True)
        assert head_loss.head_in_pieces(model) is None
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert torch.allclose(found[0], found[1], rtol=1e-5, atol=1e-9)
