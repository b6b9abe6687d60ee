"""Linear layers with frozen weights, alone or with a LoRA beside them, that take the same input: one function for all.

peft computes a LoRA in fp32 around each layer: its input, output and their gradients pass through memory in fp32
several times, and a copy of the input is kept for the backward pass. Here everything is multiplied in the base's format
(as under autocast), each product adds into the one before it, and one input is kept for all layers. Weights stay where
they are, also those in 4 bits, which are unpacked when they are multiplied; gradients have the format of the weights
they belong to. Equality: tests/models/kernels/test_projection.py. Switch: `train.kernels: plain`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_LORAS = {("peft.tuners.lora.layer", "Linear"), ("peft.tuners.lora.bnb", "Linear4bit")}


@dataclass(frozen=True)
class Low:
    """What a LoRA adds: up [out, r] @ down [r, in] * scale."""

    down: Tensor
    up: Tensor
    scale: float


@dataclass(frozen=True)
class Projection:
    """weight: [out, in], frozen, or what bitsandbytes packed it into; bias: [out] or None; packing: how (its
    QuantState)."""

    weight: Tensor
    bias: Tensor | None
    low: Low | None = None
    packing: Any = None

    def dense(self) -> Tensor:
        """The weight to multiply with; unpacked anew each time, so that one layer's at most is there."""
        if self.packing is None:
            return self.weight
        from bitsandbytes.functional import dequantize_4bit

        weight: Tensor = dequantize_4bit(self.weight.detach(), self.packing)
        return weight


def projections_of(layers: Sequence[Any], x: Tensor) -> tuple[Projection, ...] | None:
    """The layers as tensors, where all of them are what this file computes on `x`; None where one must be called as the
    module it is: trained or quantized weights, other adapters, dropout, hooks, weights that are elsewhere (ZeRO-3)."""
    kind = x.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return None
    found = tuple(known for layer in layers if (known := _projection(layer, x.dtype)) is not None)
    return found if len(found) == len(layers) else None


def project(x: Tensor, projections: tuple[Projection, ...]) -> tuple[Tensor, ...]:
    """The output of each projection. x: [.., in]; returns [.., out] of each."""
    trained = [tensor for one in projections if one.low for tensor in (one.low.down, one.low.up)]
    found: tuple[Tensor, ...] = _Project.apply(x, projections, *trained)  # type: ignore[no-untyped-call]
    return found


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, projections: tuple[Projection, ...], *_: Tensor) -> tuple[Tensor, ...]:
        rows = x.reshape(-1, x.shape[-1])
        outputs, inner = [], []
        for one in projections:
            output = functional.linear(rows, one.dense(), one.bias)
            if one.low is not None:
                low = rows @ one.low.down.to(rows.dtype).t()
                output.addmm_(low, one.low.up.to(rows.dtype).t(), alpha=one.low.scale)
                inner.append(low)
            outputs.append(output.view(*x.shape[:-1], -1))
        ctx.projections, ctx.shape = projections, x.shape
        ctx.save_for_backward(*([rows, *inner] if inner else []))
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        rows, *inner = ctx.saved_tensors or (None,)
        to_x: Tensor | None = None
        to_trained: list[Tensor | None] = []
        for one, gradient in zip(ctx.projections, gradients, strict=True):
            above = gradient.reshape(-1, gradient.shape[-1])
            to_low = None
            if one.low is not None:
                to_low = (above @ one.low.up.to(above.dtype)).mul_(one.low.scale)
                to_trained.append((to_low.t() @ rows).to(one.low.down.dtype))
                to_up = (above.t() @ inner.pop(0)).to(one.low.up.dtype)
                to_trained.append(to_up.mul_(one.low.scale))
            if ctx.needs_input_grad[0]:
                to_x = above @ one.dense() if to_x is None else to_x.addmm_(above, one.dense())
                if to_low is not None:
                    to_x.addmm_(to_low, one.low.down.to(above.dtype))
        return (None if to_x is None else to_x.view(ctx.shape), None, *to_trained)


def _projection(layer: Any, dtype: torch.dtype) -> Projection | None:
    base, low = layer, None
    if (type(layer).__module__, type(layer).__name__) in _LORAS:
        base = layer.base_layer
        if not (layer.disable_adapters or layer.merged):
            low = _low(layer)
            if low is None:
                return None
    packing = _packing(base, dtype)
    if (type(base) is not nn.Linear and packing is None) or _has_hooks(layer) or _has_hooks(base):
        return None
    weight, bias = base.weight, base.bias
    if packing is not None:
        return None if weight.requires_grad or bias is not None else Projection(weight, None, low, packing)
    is_frozen = not (weight.requires_grad or (bias is not None and bias.requires_grad))
    return Projection(weight, bias, low) if is_frozen and weight.dtype == dtype and weight.dim() == 2 else None


def _packing(base: Any, dtype: torch.dtype) -> Any:
    """How bitsandbytes packed a layer in 4 bits that unpacks to `dtype`; None for any other layer, and for weights in
    the layout of its CPU kernels."""
    if type(base).__name__ != "Linear4bit":
        return None
    state = getattr(base.weight, "quant_state", None)
    is_other = state is None or getattr(state, "packing_format_for_cpu", False) or state.dtype != dtype
    return None if is_other or base.compute_dtype not in (None, dtype) else state


def _low(layer: Any) -> Low | None:
    """The only active LoRA of one of peft's layers; None where there is more to it than its two weights."""
    names = [name for name in layer.active_adapters if name in layer.lora_A]
    if len(names) != 1 or names[0] in layer.lora_variant:
        return None
    down, up = layer.lora_A[names[0]], layer.lora_B[names[0]]
    drops = layer.training and not isinstance(layer.lora_dropout[names[0]], nn.Identity)
    parts = (down, up)
    if drops or any(type(part) is not nn.Linear or part.bias is not None or _has_hooks(part) for part in parts):
        return None
    return Low(down.weight, up.weight, float(layer.scaling[names[0]])) if down.weight.dim() == 2 else None


def _has_hooks(layer: nn.Module) -> bool:
    return bool(layer._forward_hooks or layer._forward_pre_hooks)
