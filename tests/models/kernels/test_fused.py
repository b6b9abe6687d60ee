"""Fused norm, gated activation and output loss against torch's own, outputs and gradients, in fp64; in bf16 against
transformers' layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import silu
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from tunewright.models.kernels import fused, head_loss
from tunewright.models.load import load_model


def gradients(function: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    """The output, and the gradients of a fixed weighting of it."""
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    output = function(*leaves)
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view(output.shape)
    (output * weights).sum().backward()
    return [output.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


def drawn(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


@pytest.mark.parametrize("rows", [1, 3, 300])
def test_the_norm_and_both_gradients(rows: int) -> None:
    def plain(x: Tensor, weight: Tensor) -> Tensor:
        return weight * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5))

    inputs = drawn((2, rows, 24), (24,))
    ours = gradients(lambda x, weight: fused._RmsNorm.apply(x, weight, 1e-5), *inputs)
    for found, expected in zip(ours, gradients(plain, *inputs), strict=True):
        assert torch.allclose(found, expected, rtol=2e-5, atol=2e-5), "fp32 inside, as in transformers"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_no_input_is_changed(dtype: torch.dtype) -> None:
    """`.float()` of an fp32 tensor is that tensor: what is computed in place must be a copy in every dtype."""
    x, weight, above, gate, up = drawn((2, 300, 8), (8,), (2, 300, 8), (2, 300, 8), (2, 300, 8), dtype=dtype)
    inputs = [x.requires_grad_(), weight.requires_grad_(), gate.requires_grad_(), up.requires_grad_(), above]
    before = [tensor.detach().clone() for tensor in inputs]
    fused._RmsNorm.apply(x, weight, 1e-5).backward(above)
    fused._SiluProduct.apply(gate, up).backward(above)
    hidden = above.view(-1, 8).clone().requires_grad_()
    head = nn.Linear(8, 30, bias=False).to(dtype).requires_grad_(False)
    known = head.weight.clone()
    head_loss.head_loss(hidden, head, torch.zeros(len(hidden), dtype=torch.long)).backward()
    assert all(torch.equal(now, then) for now, then in zip(inputs, before, strict=True))
    assert torch.equal(hidden.detach(), before[-1].view(-1, 8)) and torch.equal(head.weight, known)


def test_the_norm_is_transformers_bit_for_bit_in_16_bits() -> None:
    (x,) = drawn((1, 300, 64), dtype=torch.bfloat16)
    norm = LlamaRMSNorm(64).to(torch.bfloat16)
    norm.weight.data = drawn((64,), dtype=torch.bfloat16)[0]
    assert torch.equal(fused._RmsNorm.apply(x, norm.weight, norm.variance_epsilon), norm(x))


def test_the_gated_activation_and_both_gradients() -> None:
    inputs = drawn((1, 40, 24), (1, 40, 24))
    ours = gradients(lambda gate, up: fused._SiluProduct.apply(gate, up), *inputs)
    for found, expected in zip(ours, gradients(lambda gate, up: silu(gate) * up, *inputs), strict=True):
        assert torch.allclose(found, expected, atol=1e-12)


def test_a_fused_model_computes_and_saves_what_it_did(tiny: Path) -> None:
    plain, other = (load_model(tiny, dtype=torch.float64) for _ in range(2))
    parts = 2 + 1 + 1  # norms, gated layer and attention of each of two layers; then the last norm, the last layer
    assert fused.fuse(other) == 2 * parts + 1 + 1
    ids = torch.randint(0, 259, (2, 30), generator=torch.Generator().manual_seed(2))
    found = [_backward(model, ids) for model in (plain, other)]
    for name, gradient in found[0].items():
        assert torch.allclose(found[1][name], gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max())), name
    assert list(other.state_dict()) == list(plain.state_dict())
    assert type(other.model.norm).__name__ == type(plain.model.norm).__name__


def _backward(model: Any, ids: Tensor) -> dict[str, Tensor]:
    model(input_ids=ids, labels=ids).loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}
