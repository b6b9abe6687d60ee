"""Prepacked linear layers for inference on CPU.

torch's fp32 `linear` with few rows (decoding) is 1.5 to 2.5 times slower than oneDNN with weights laid out once
(benchmarks/packed_linear.py, docs/results.md). The layer keeps only the packed weight, so memory stays the same.
Equality with the plain layer: tests/models/test_packed_linear.py. Switch: `for_inference(model, pack=False)`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_ROWS = 16
"""Row count the layout is chosen for; others work with it as well."""
KEEPS_WEIGHT = "keeps_weight"
"""Attribute that marks a linear layer whose weight is read by others."""


class PackedLinear(nn.Module):
    """y = x W^T + b with W in oneDNN's own layout. x: [..., in]; returns [..., out]. No gradient."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = linear.weight.detach()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)
        self._bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
        return y


def pack_linears(model: Any) -> int:
    """Replaces every `nn.Linear` of a CPU fp32 or bf16 model in place; returns how many.

    A head that shares its weight with the embedding gets a packed copy of it. Layers marked `KEEPS_WEIGHT` stay: an
    adapter beside them reads their weight.
    """
    packed = 0
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear and child.weight.device.type == "cpu" and not hasattr(child, KEEPS_WEIGHT):
                setattr(module, name, PackedLinear(child))
                packed += 1
    return packed


def can_pack(dtype: torch.dtype) -> bool:
    """Whether this torch and CPU have the oneDNN operators for `dtype` (16-bit ones need AVX512BW or AVX-NE)."""
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return False
    try:
        torch.ops.mkldnn._reorder_linear_weight(torch.zeros(1, 1, dtype=dtype), _ROWS)
    except RuntimeError:
        return False
    return True
