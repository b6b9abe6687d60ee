"""Prepacked linear layers for inference on CPU.

torch's `linear` with few rows (decoding) is 1.5 to 2.5 times slower than oneDNN with weights laid out once
(benchmarks/packed_linear.py, docs/results.md). The layer keeps only the packed weight, so memory stays the same. Layers
that read the same input (queries, keys and values; gate and up) are packed as one. Equality with the plain layers:
tests/models/test_packed_linear.py. Switch: `for_inference(model, pack=False)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tunewright.models.kernels.head_loss import CutHead

_ROWS = 16
"""Row count the layout is chosen for; others work with it as well."""
KEEPS_WEIGHT = "keeps_weight"
"""Attribute that marks a linear layer whose weight is read by others."""
TOGETHER = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Layers of one module that read the same input."""


class PackedLinear(nn.Module):
    """y = x W^T + b with W in oneDNN's own layout. x: [..., in]; returns [..., out]. No gradient."""

    def __init__(self, *linears: nn.Linear) -> None:
        """Several layers: their outputs stand behind one another."""
        super().__init__()
        self.in_features = linears[0].in_features
        self.out_features = sum(linear.out_features for linear in linears)
        weights = [linear.weight.detach() for linear in linears]
        self._weight = torch.ops.mkldnn._reorder_linear_weight(_joined(weights), _ROWS)
        biases = [linear.bias.detach() for linear in linears if linear.bias is not None]
        self._bias = _joined(biases) if biases else None

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
        return y


class PackedGroup(PackedLinear):
    """Several layers as one. Asked for its parts one after the other with the same input, it computes once."""

    def __init__(self, *linears: nn.Linear) -> None:
        super().__init__(*linears)
        self._parts = len(linears)
        self._left = 0
        self._last: tuple[Tensor, Tensor] | None = None

    def part(self, x: Tensor, start: int, stop: int) -> Tensor:
        """Columns `start` to `stop` of the output. The output is let go once each part was asked for."""
        if self._last is None or self._last[0] is not x:
            self._last, self._left = (x, self(x)), self._parts
        found = self._last[1][..., start:stop]
        self._left -= 1
        if not self._left:
            self._last = None
        return found


class PackedPart(nn.Module):
    """One of the layers of `whole`: columns `start` to `stop` of its output."""

    def __init__(self, whole: PackedGroup, start: int, stop: int) -> None:
        super().__init__()
        self.whole, self.start, self.stop = whole, start, stop
        self.in_features, self.out_features = whole.in_features, stop - start

    def forward(self, x: Tensor) -> Tensor:
        return self.whole.part(x, self.start, self.stop)


def pack_linears(model: Any) -> int:
    """Replaces every `nn.Linear` of a CPU fp32 or bf16 model in place; returns how many.

    A head that shares its weight with the embedding gets a packed copy of it. Layers marked `KEEPS_WEIGHT` stay: an
    adapter beside them reads their weight.
    """
    packed = 0
    for module in list(model.modules()):
        packed += sum(_pack_together(module, names) for names in TOGETHER)
        for name, child in list(module.named_children()):
            if _packs(child):
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


def _packs(layer: Any) -> bool:
    return (
        type(layer) in (nn.Linear, CutHead) and layer.weight.device.type == "cpu" and not hasattr(layer, KEEPS_WEIGHT)
    )


def _pack_together(module: nn.Module, names: Sequence[str]) -> int:
    """Packs the layers `names` of `module` as one, where it has them all and all can be packed; returns how many."""
    layers = [getattr(module, name, None) for name in names]
    linears = [layer for layer in layers if isinstance(layer, nn.Linear) and _packs(layer)]
    has_bias = {linear.bias is not None for linear in linears}
    if len(linears) < len(names) or len(has_bias) > 1:
        return 0
    whole, start = PackedGroup(*linears), 0
    for name, linear in zip(names, linears, strict=True):
        setattr(module, name, PackedPart(whole, start, start + linear.out_features))
        start += linear.out_features
    return len(names)


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))
