"""Causal attention as matrix products, for training in 16 bits on CPU.

torch's fused attention does not use the CPU's bf16 instructions in its backward pass: 20 to 45 microseconds a token and
layer for rows of 64 to 512 tokens, where plain products take 5 to 16 (docs/results.md). Queries go in blocks: a long
row's scores are never there at once, and each block meets only the keys it may see. Nothing but queries, keys and
values is kept for the backward pass. Equality: tests/models/kernels/test_attention.py. Switch: `train.kernels: plain`.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

BLOCK = 256
"""Queries that are computed at once."""


def block_attention(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Attention of L queries to S >= L keys: query i sees the first S - L + i + 1.

    query: [H, L, D]; key, value: [H_kv, S, D] with H a multiple of H_kv; returns [H, L, D].
    """
    found: Tensor = _BlockAttention.apply(query, key, value, scale)  # type: ignore[no-untyped-call]
    return found


class _BlockAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(query, key, value)
        ctx.scale = scale
        output = torch.empty_like(query)
        for rows, seen in _blocks(query.shape[1], key.shape[1]):
            weights = _weights(query[:, rows], key[:, :seen], scale)
            output[:, rows] = _ungrouped(weights @ value[:, :seen], query.shape[0])
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        (gradient,) = gradients
        query, key, value = ctx.saved_tensors
        to_query = torch.empty_like(query)
        to_key, to_value = torch.zeros_like(key), torch.zeros_like(value)
        for rows, seen in _blocks(query.shape[1], key.shape[1]):
            keys, values = key[:, :seen], value[:, :seen]
            grouped, above = _grouped(query[:, rows], len(key)), _grouped(gradient[:, rows], len(key))
            weights = _weights(query[:, rows], keys, ctx.scale)
            to_value[:, :seen] += weights.transpose(1, 2) @ above
            to_weights = above @ values.transpose(1, 2)
            scores = torch._softmax_backward_data(to_weights, weights, -1, weights.dtype) * ctx.scale
            to_query[:, rows] = _ungrouped(scores @ keys, query.shape[0])
            to_key[:, :seen] += scores.transpose(1, 2) @ grouped
        return to_query, to_key, to_value, None


def _blocks(queries: int, keys: int) -> list[tuple[slice, int]]:
    """(queries of a block, keys that its last query sees)."""
    front = keys - queries
    starts = range(0, queries, BLOCK)
    return [(slice(start, min(start + BLOCK, queries)), front + min(start + BLOCK, queries)) for start in starts]


def _weights(query: Tensor, key: Tensor, scale: float) -> Tensor:
    """Softmax of the scores, [H_kv, G * L, S]: the G heads that share a key are rows of one product."""
    length = query.shape[1]
    kv_heads, seen, _ = key.shape
    scores = (_grouped(query, kv_heads) * scale) @ key.transpose(1, 2)
    hidden = _hidden(length, seen, scores.dtype, scores.device)
    return torch.softmax((scores.view(-1, length, seen) + hidden), -1).view(kv_heads, -1, seen)


def _grouped(tensor: Tensor, kv_heads: int) -> Tensor:
    """[H, L, D] -> [H_kv, G * L, D]."""
    return tensor.reshape(kv_heads, -1, tensor.shape[-1])


def _ungrouped(tensor: Tensor, heads: int) -> Tensor:
    """[H_kv, G * L, D] -> [H, L, D]."""
    return tensor.view(heads, -1, tensor.shape[-1])


@lru_cache(maxsize=512)
def _hidden(length: int, seen: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[length, seen]: 0 where a query sees a key, -inf where the key comes later. Never an inference tensor: one first
    made in an evaluation is used again by the training."""
    with torch.inference_mode(False):
        return torch.full((length, seen), -math.inf, dtype=dtype, device=device).triu(seen - length + 1)
