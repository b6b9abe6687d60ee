"""The layers of Llama-like models for training: fewer passes, less kept for the backward pass.

transformers' RMSNorm keeps three fp32 copies of its input for the backward pass; here the input alone is kept, and the
fp32 numbers live for a few rows at a time. The gated activation keeps gate and up, not their product's parts. Attention
layers and the last decoder layer: models/kernels/layers. Equality: tests/models/kernels/test_fused.py; memory and time:
docs/results.md. Switch: `train.kernels: plain`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tunewright.models.kernels import gpu_rows
from tunewright.models.kernels.decoder import FAMILIES
from tunewright.models.kernels.layers import Attention, Last
from tunewright.models.kernels.place import by_triton
from tunewright.models.kernels.projection import project, projections_of

_GATED = ("gate_proj", "up_proj", "down_proj")
_ATTENDS = ("q_proj", "k_proj", "v_proj", "o_proj", "head_dim", "scaling")
NUMBERS = 1 << 20
"""fp32 numbers of a norm that are there at once: they stay in the processor's cache."""


def fuse(model: Any) -> int:
    """Gives the layers of a Llama-like model their fused forms, in place; returns how many. Weights, names and what is
    saved stay as they are."""
    if model.config.model_type not in FAMILIES or model.config.hidden_act != "silu":
        return 0
    found = [(module, form) for module in model.modules() if (form := _form(module)) is not None]
    last = [module for module in model.modules() if type(module).__name__.endswith("DecoderLayer")][-1:]
    for module, form in [*found, *((module, Last) for module in last)]:
        kind: Any = type(module)
        module.__class__ = _with(form, kind)
    return len(found) + len(last)


def _form(module: Any) -> type | None:
    kind = type(module).__name__
    if kind.endswith("RMSNorm") and hasattr(module, "variance_epsilon"):
        return _Norm
    if kind.endswith("MLP") and all(hasattr(module, name) for name in _GATED):
        return _Gated
    if kind.endswith("Attention") and all(hasattr(module, name) for name in _ATTENDS):
        return Attention
    return None


@cache
def _with(form: type, kind: type) -> type:
    """A class of the same name that computes as `form` does."""
    return type(kind.__name__, (form, kind), {})


class _Norm:
    weight: Tensor
    variance_epsilon: float

    def forward(self, hidden_states: Tensor) -> Tensor:
        found: Tensor = _RmsNorm.apply(hidden_states, self.weight, self.variance_epsilon)  # type: ignore[no-untyped-call]
        return found


class _Gated:
    gate_proj: Any
    up_proj: Any
    down_proj: Any

    def forward(self, x: Tensor) -> Tensor:
        inputs = projections_of((self.gate_proj, self.up_proj), x)
        gate, up = (self.gate_proj(x), self.up_proj(x)) if inputs is None else project(x, inputs)
        product: Tensor = _SiluProduct.apply(gate, up)  # type: ignore[no-untyped-call]
        outward = projections_of((self.down_proj,), product)
        down: Tensor = self.down_proj(product) if outward is None else project(product, outward)[0]
        return down


class _RmsNorm(torch.autograd.Function):
    """weight * (x / rms(x)), as transformers rounds it: the quotient in fp32, rounded, then times the weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        if by_triton(x):
            x = x.contiguous()
            output, scales = gpu_rows.norm_forward(x, weight, epsilon)
            ctx.save_for_backward(x, weight, scales)
            return output
        rows, output = x.reshape(-1, x.shape[-1]), torch.empty_like(x)
        scales = torch.empty(len(rows), 1, dtype=torch.float32, device=x.device)
        for part, made, scale in zip(
            *(_parts(t, x.shape[-1]) for t in (rows, output.view(rows.shape), scales)), strict=True
        ):
            wide = part.to(torch.float32, copy=True)
            scale.copy_(torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon))
            torch.mul(wide.mul_(scale).to(x.dtype), weight, out=made)
        ctx.save_for_backward(x, weight, scales)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight, scales = ctx.saved_tensors
        if by_triton(x):
            found = gpu_rows.norm_backward(x, weight, scales, gradients[0], wants_weight=ctx.needs_input_grad[1])
            return *found, None
        rows, above = x.reshape(-1, x.shape[-1]), gradients[0].reshape(-1, x.shape[-1])
        to_x = torch.empty_like(x)
        to_weight = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        factor = weight.float()  # once: mixed formats are multiplied slowly
        together = zip(*(_parts(t, x.shape[-1]) for t in (rows, above, scales, to_x.view(rows.shape))), strict=True)
        for part, gradient, scale, made in together:
            unit, wide = part.float() * scale, gradient.to(torch.float32, copy=True)
            if to_weight is not None:
                to_weight += (wide * unit).sum(0)
            wide.mul_(factor)
            along = (wide * unit).mean(-1, keepdim=True)
            made.copy_(wide.addcmul_(unit, along, value=-1).mul_(scale))
        return to_x, None if to_weight is None else to_weight.to(weight.dtype), None


class _SiluProduct(torch.autograd.Function):
    """silu(gate) * up."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        if by_triton(gate):
            gate, up = gate.contiguous(), up.contiguous()
        ctx.save_for_backward(gate, up)
        if by_triton(gate):
            return gpu_rows.gate_forward(gate, up)
        return functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        (above,) = gradients
        if by_triton(gate):
            return gpu_rows.gate_backward(gate, up, above)
        to_gate = torch.ops.aten.silu_backward(above * up, gate)
        return to_gate, functional.silu(gate).mul_(above)


def _parts(rows: Tensor, width: int) -> tuple[Tensor, ...]:
    return tuple(torch.split(rows, max(1, NUMBERS // width)))
