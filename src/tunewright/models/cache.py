"""Key/value caches of a running batch: rows join, leave and share a prefix. The version-dependent part of
transformers' cache (`DynamicCache.layers`) is touched here only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

Layers = list[tuple[Tensor, Tensor]]
"""(keys, values) a layer, each [batch, kv_heads, length, head_dim]."""


def layers_of(cache: Any) -> Layers:
    """The tensors inside a transformers cache."""
    return [(layer.keys, layer.values) for layer in cache.layers]


def cache_of(layers: Layers) -> Any:
    """A transformers cache over `layers`, which it extends by concatenation."""
    cache: Any = DynamicCache()
    for index, (keys, values) in enumerate(layers):
        cache.update(keys, values, index)
    return cache


def length(layers: Layers) -> int:
    """Columns of the cache; 0 for an empty one."""
    return layers[0][0].shape[2] if layers else 0


def repeat(layers: Layers, rows: int) -> Layers:
    """One row's cache for `rows` rows (a view: it is copied when it is extended)."""
    return [(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1)) for keys, values in layers]


def select(layers: Layers, rows: list[int], *, drop_left: int = 0) -> Layers:
    """Only `rows`, without the first `drop_left` columns."""
    return [(keys[rows, :, drop_left:], values[rows, :, drop_left:]) for keys, values in layers]


def join(first: Layers, second: Layers) -> Layers:
    """Both batches in one, the shorter padded on the left (positions are inside the keys, so slots may move)."""
    return [(_join(k1, k2), _join(v1, v2)) for (k1, v1), (k2, v2) in zip(first, second, strict=True)]


def _join(first: Tensor, second: Tensor) -> Tensor:
    length = max(first.shape[2], second.shape[2])
    return torch.cat([pad_left(first, length), pad_left(second, length)])


def pad_left(tensor: Tensor, length: int) -> Tensor:
    """[B, H, T, D] -> [B, H, length, D] with zeros in front."""
    missing = length - tensor.shape[2]
    return torch.nn.functional.pad(tensor, (0, 0, missing, 0)) if missing else tensor
