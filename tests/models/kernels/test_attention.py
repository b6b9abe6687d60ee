"""Attention as products against torch's own, in fp64; in bf16 both against fp64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from tunewright.models.kernels import attention
from tunewright.models.kernels.attention import packed_attention

SHAPES = [(1, 1), (5, 5), (5, 12), (70, 70), (70, 100), (64, 64), (33, 90)]


def drawn(queries: int, keys: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(queries * 1000 + keys)
    shapes = [(6, queries, 16), (2, keys, 16), (2, keys, 16), (6, queries, 16)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


def plain(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    queries, keys = query.shape[1], key.shape[1]
    mask = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)
    key, value = (states.repeat_interleave(3, 0) for states in (key, value))
    return scaled_dot_product_attention(query[None], key[None], value[None], attn_mask=mask, scale=scale)[0]


def packed(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """One part of all queries and keys."""
    part = slice(0, query.shape[1]), (slice(0, key.shape[1]),)
    return packed_attention(query, key, value, [part], scale).transpose(0, 1)


def results(function: object, inputs: list[Tensor]) -> list[Tensor]:
    """The output and the three gradients."""
    *states, above = inputs
    leaves = [state.clone().requires_grad_() for state in states]
    output = function(*leaves, 0.3)  # type: ignore[operator]
    output.backward(above)
    return [output.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


@pytest.mark.parametrize(("queries", "keys"), SHAPES)
@pytest.mark.parametrize("block", [1, 32, 256])
def test_output_and_gradients_are_torchs(queries: int, keys: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "BLOCK", block)
    inputs = drawn(queries, keys)
    found, expected = results(packed, inputs), results(plain, inputs)
    assert len(found) == 4
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-12)


def test_parts_that_share_keys_are_what_slices_and_joins_give() -> None:
    """Two keys for all (a trained prefix), a start of 30 that two rows share, a row alone; the second is longer than a
    block."""
    start = slice(2, 32)
    parts = [
        (slice(0, 30), (slice(0, 2), start)),
        (slice(30, 175), (slice(0, 2), start, slice(32, 177))),
        (slice(175, 180), (slice(0, 2), start, slice(177, 182))),
        (slice(180, 200), (slice(0, 2), slice(182, 202))),
    ]

    def joined(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        found = []
        for queries, places in parts:
            keys, values = (torch.cat([states[:, place] for place in places], 1) for states in (key, value))
            found.append(plain(query[:, queries], keys, values, scale))
        return torch.cat(found, 1)

    def together(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        return packed_attention(query, key, value, parts, scale).transpose(0, 1)

    inputs = drawn(200, 202)
    for ours, theirs in zip(results(together, inputs), results(joined, inputs), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-12)


def test_16_bits_are_nearly_as_close_to_fp64_as_torchs() -> None:
    """torch keeps scores in fp32, the products round them to 16 bits, as transformers' eager attention does."""
    exact = results(plain, drawn(70, 100))
    for ours, theirs, true in zip(
        results(packed, drawn(70, 100, torch.bfloat16)),
        results(plain, drawn(70, 100, torch.bfloat16)),
        exact,
        strict=True,
    ):
        error, known = ((found.double() - true).norm() / true.norm() for found in (ours, theirs))
        assert error < max(2.5 * known, 0.01), (float(error), float(known))


def test_nothing_but_the_states_is_kept_for_the_backward_pass() -> None:
    kept: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    query, key, value, _ = drawn(200, 200)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        packed(query.requires_grad_(), key.requires_grad_(), value, 0.3)
    sums = query.numel() // query.shape[-1]
    assert sum(kept) == query.numel() + key.numel() + value.numel() + sums


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("size", [30.0, -30.0, 1e-4], ids=["large", "small", "flat"])
def test_scores_of_any_size_are_softmaxs(dtype: torch.dtype, size: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores of thousands, above or below zero, would leave the range of numbers if they were raised to as they are."""
    query, key, value, above = drawn(40, 60)
    inputs = [tensor.to(dtype) for tensor in (query.abs() * abs(size), key.abs() * size, value, above)]
    found = results(packed, inputs)
    monkeypatch.setattr(attention, "_SUMS", (math.inf, math.inf))
    expected = results(packed, inputs)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.isfinite(ours).all()
        error = float((ours - theirs).double().norm() / (theirs.double().norm() + 1e-9))
        assert error < (1e-6 if dtype in (torch.float64, torch.float32) else 0.01)
        assert size == 1e-4 or torch.equal(ours, theirs), "computed again with the largest score taken off"
    if dtype == torch.float64:
        for ours, theirs in zip(found, results(plain, inputs), strict=True):
            assert torch.allclose(ours, theirs, atol=1e-9)
