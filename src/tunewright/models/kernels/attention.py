"""Causal attention as matrix products, for training in 16 bits on CPU, all rows of a packed sequence at once.

torch's fused attention does not use the CPU's bf16 instructions in its backward pass: 20 to 45 microseconds a token and
layer for rows of 64 to 512 tokens, where plain products take 5 to 16 (docs/results.md). Queries go in blocks: a long
row's scores are never there at once, and each block meets only the keys it may see. Nothing but queries, keys, values
and each query's sum of weights is kept for the backward pass, which writes each row's gradients where they belong:
autograd's own slices would fill and add the whole sequence once a row. The exponentials are taken without subtracting
the largest score, which is half of softmax's time; where a sum then leaves the numbers' range, all is done again with
it. Equality: tests/models/kernels/test_attention.py. Switch: `train.kernels: plain`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from tunewright.models.kernels.rare import happens

BLOCK = 128
"""Queries that are computed at once."""
States = tuple[Tensor, Tensor, Tensor]
"""Queries [H, L, D]; keys, values [H_kv, S, D]."""
_BITS = math.log2(math.e)
"""exp(x) is exp2(x * _BITS), which the CPU computes faster."""
_SUMS = 2.0**-60, 2.0**100
"""Where sums of weights are far enough from the ends of bfloat16's and float32's range."""
Part = tuple[slice, tuple[slice, ...]]
"""Queries, and the keys they see in this order: the last of them causally, those before wholly."""


def packed_attention(query: Tensor, key: Tensor, value: Tensor, parts: Sequence[Part], scale: float) -> Tensor:
    """Attention of each part: with L queries and S >= L keys, query i sees the first S - L + i + 1.

    query: [H, T, D]; key, value: [H_kv, S, D] with H a multiple of H_kv; the parts cover all queries once; returns
    [T, H, D].
    """
    found: Tensor = _PackedAttention.apply(query, key, value, (parts, scale))  # type: ignore[no-untyped-call]
    return found


class _PackedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, how: tuple[Sequence[Part], float]) -> Tensor:
        ctx.how = parts, scale = how
        output = query.new_empty(query.shape[1], len(query), query.shape[2])
        sums = None
        if query.dtype != torch.float16:  # its range is too small
            sums = query.new_empty(query.shape[:2], dtype=torch.promote_types(query.dtype, torch.float32))
            _attend((query, key, value), parts, scale, output, sums)
        if sums is None or happens(_is_out_of_range(sums)):
            sums = None
            _attend((query, key, value), parts, scale, output, None)
        ctx.save_for_backward(query, key, value, sums)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        above = gradients[0].transpose(0, 1)
        query, key, value, sums = ctx.saved_tensors
        to_query, to_key, to_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        parts, scale = ctx.how
        for queries, seen in parts:
            states = query[:, queries], _gathered(key, seen), _gathered(value, seen)
            own = None if sums is None else sums[:, queries]
            found = _part_backward(states, above[:, queries], scale, own)
            to_query[:, queries] = found[0]
            start = 0
            for place in seen:
                rows = slice(start, start := start + place.stop - place.start)
                to_key[:, place].add_(found[1][:, rows])
                to_value[:, place].add_(found[2][:, rows])
        return to_query, to_key, to_value, None


def _attend(states: States, parts: Sequence[Part], scale: float, output: Tensor, sums: Tensor | None) -> None:
    """Fills `output` [T, H, D]. sums: filled with each query's sum of weights, [H, T]; None: weights are softmax's."""
    query, key, value = states
    for queries, seen in parts:
        keys, values = _gathered(key, seen), _gathered(value, seen)
        own, made = query[:, queries], output[queries].transpose(0, 1)
        for rows, count in blocks(own.shape[1], keys.shape[1]):
            weights = _weights(own[:, rows], keys[:, :count], scale, is_raised=sums is not None)
            found = _ungrouped(torch.bmm(weights, values[:, :count]), len(query))
            if sums is None:
                made[:, rows] = found
            else:
                total = weights.sum(-1, dtype=sums.dtype).view(len(query), -1)
                sums[:, queries][:, rows] = total
                torch.mul(found, total.reciprocal_()[..., None], out=made[:, rows])


def _is_out_of_range(sums: Tensor) -> Tensor:
    low, high = sums.aminmax()
    return ~((low > _SUMS[0]) & (high < _SUMS[1]))  # so that NaN is out of it


def _part_backward(states: States, above: Tensor, scale: float, sums: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients to the states of one part, in their shapes. The weights are computed again."""
    query, key, value = states
    to_query, to_key, to_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
    for rows, count in blocks(query.shape[1], key.shape[1]):
        keys, values = key[:, :count], value[:, :count]
        grouped, gradient = _grouped(query[:, rows], len(key)), _grouped(above[:, rows], len(key))
        weights = _weights(query[:, rows], keys, scale, is_raised=sums is not None)
        if sums is not None:
            weights *= sums[:, rows].reciprocal().to(weights.dtype).reshape(len(key), -1, 1)
        to_value[:, :count].baddbmm_(weights.transpose(1, 2), gradient)
        to_weights = torch.bmm(gradient, values.transpose(1, 2))
        scores = torch._softmax_backward_data(to_weights, weights, -1, weights.dtype)
        to_query[:, rows] = _ungrouped(torch.bmm(scores, keys).mul_(scale), len(query))
        to_key[:, :count].baddbmm_(scores.transpose(1, 2), grouped, alpha=scale)
    return to_query, to_key, to_value


def _gathered(states: Tensor, places: tuple[slice, ...]) -> Tensor:
    """Side by side for every head, as products read them."""
    return states[:, places[0]].contiguous() if len(places) == 1 else torch.cat([states[:, p] for p in places], 1)


def blocks(queries: int, keys: int) -> list[tuple[slice, int]]:
    """(queries of a block, keys that its last query sees)."""
    front = keys - queries
    starts = range(0, queries, BLOCK)
    return [(slice(start, min(start + BLOCK, queries)), front + min(start + BLOCK, queries)) for start in starts]


def _weights(query: Tensor, key: Tensor, scale: float, *, is_raised: bool) -> Tensor:
    """Softmax of the scores, [H_kv, G * L, S]: the G heads that share a key are rows of one product. is_raised: what it
    would divide by its sum, for the largest score not taken off."""
    length, (kv_heads, seen, _) = query.shape[1], key.shape
    grouped, alpha = _grouped(query, kv_heads), scale * _BITS if is_raised else scale
    scores = torch.baddbmm(grouped.new_empty(()), grouped, key.transpose(1, 2), beta=0, alpha=alpha)
    scores.view(-1, length, seen)[:, :, seen - length :].add_(_later(length, scores.dtype, scores.device))
    return scores.exp2_() if is_raised else torch.softmax(scores, -1)


def _grouped(tensor: Tensor, kv_heads: int) -> Tensor:
    """[H, L, D] -> [H_kv, G * L, D]."""
    return tensor.reshape(kv_heads, -1, tensor.shape[-1])


def _ungrouped(tensor: Tensor, heads: int) -> Tensor:
    """[H_kv, G * L, D] -> [H, L, D]."""
    return tensor.view(heads, -1, tensor.shape[-1])


@lru_cache(maxsize=512)
def _later(length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[length, length]: -inf where the key comes after the query, else 0. Never an inference tensor: one first made in
    an evaluation is used again by the training."""
    with torch.inference_mode(False):
        return torch.full((length, length), -math.inf, dtype=dtype, device=device).triu(1)
