"""Packed layers against plain ones; layers with one input are packed as one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tunewright.models.packed_linear import KEEPS_WEIGHT, PackedLinear, PackedPart, can_pack, pack_linears

pytestmark = pytest.mark.skipif(not can_pack(torch.float32), reason="this torch has no oneDNN linear")


class Attention(nn.Module):
    """Three layers of one input and one of another."""

    def __init__(self, *, bias: bool, odd: bool = False) -> None:
        super().__init__()
        self.q_proj, self.k_proj = nn.Linear(16, 24, bias=bias), nn.Linear(16, 8, bias=bias)
        self.v_proj, self.o_proj = nn.Linear(16, 8, bias=bias and not odd), nn.Linear(24, 16, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.o_proj(self.q_proj(x)), self.k_proj(x), self.v_proj(x)], -1)


@pytest.mark.parametrize("bias", [False, True])
@torch.inference_mode()
def test_together_they_compute_what_they_compute_apart(bias: bool) -> None:
    module = Attention(bias=bias)
    inputs = [torch.randn(2, 3, 16) for _ in range(3)]
    expected = [module(x) for x in inputs]
    assert pack_linears(module) == 4
    part: Any = module.q_proj
    assert isinstance(part, PackedPart) and part.whole is module.v_proj.whole
    for x, wanted in zip(inputs, expected, strict=True):
        assert torch.allclose(module(x), wanted, atol=1e-6)
    assert torch.allclose(module.k_proj(inputs[0]), expected[0][..., 16:24], atol=1e-6), (
        "asked alone, for an older input"
    )
    assert torch.allclose(module(inputs[1]), expected[1], atol=1e-6), "and not confused by that"


@torch.inference_mode()
def test_layers_that_cannot_be_joined_are_packed_apart() -> None:
    odd, kept = Attention(bias=True, odd=True), Attention(bias=True)
    setattr(kept.k_proj, KEEPS_WEIGHT, True)
    x = torch.randn(2, 16)
    for module, packed in ((odd, 4), (kept, 3)):
        expected = module(x)
        assert pack_linears(module) == packed and type(module.q_proj) is PackedLinear
        assert torch.allclose(module(x), expected, atol=1e-6)
    assert type(kept.k_proj) is nn.Linear
