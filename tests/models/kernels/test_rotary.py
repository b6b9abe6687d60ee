"""Rotary positions against transformers' own, output and gradient, in fp64."""

from __future__ import annotations

import torch
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from tunewright.models.kernels.rotary import turn


def test_output_and_gradient_are_transformers() -> None:
    """Both halves of a head have angles of their own here, more than any model's embeddings say."""
    x, above = torch.randn(9, 3, 8, dtype=torch.float64), torch.randn(3, 9, 8, dtype=torch.float64)
    cos, sin = torch.randn(2, 9, 8, dtype=torch.float64)

    def theirs(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        heads = x.transpose(0, 1)[None]
        turned: torch.Tensor = apply_rotary_pos_emb(heads, heads, cos[None], sin[None])[0][0]
        return turned

    found = []
    for function in (turn, theirs):
        leaf = x.clone().requires_grad_()
        output = function(leaf, cos, sin)
        output.backward(above)
        found.append((output.detach(), leaf.grad))
    for one, other in zip(*found, strict=True):
        assert one is not None and other is not None and torch.allclose(one, other, atol=1e-14)


def test_the_result_is_in_the_order_that_attention_reads() -> None:
    assert turn(torch.randn(5, 3, 8), torch.ones(5, 8), torch.ones(5, 8)).is_contiguous()
