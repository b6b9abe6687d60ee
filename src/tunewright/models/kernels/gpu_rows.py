"""Norms, gated activations and rotary positions on a GPU, each one pass over its numbers.

The same functions in plain torch: models/kernels/fused and rotary; the kernels: triton_rows. Equality, also without a
GPU by Triton's interpreter: tests/models/kernels/test_gpu_rows.py. Switch: `train.kernels: plain`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tunewright.models.kernels.place import launch

_SUMS = 1024
"""Programs of the norm's backward pass: each adds up the weight's gradient of its rows, so that no two write one."""
_NUMBERS = 1024
"""Numbers of a gated activation that one program computes."""


def norm_forward(x: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """(weight * (x / rms(x)) in the format of x, 1 / rms(x) [rows, 1] float32). x: [.., d], contiguous."""
    rows, width = x.numel() // x.shape[-1], x.shape[-1]
    made, scales = torch.empty_like(x), x.new_empty(rows, 1, dtype=torch.float32)
    launch("triton_rows.norm_forward", rows, x, weight, made, scales, width, epsilon, block=_power(width), num_warps=8)
    return made, scales


def norm_backward(
    x: Tensor, weight: Tensor, scales: Tensor, above: Tensor, *, wants_weight: bool
) -> tuple[Tensor, Tensor | None]:
    """Gradients to x and, where wanted, to the weight."""
    rows, width = x.numel() // x.shape[-1], x.shape[-1]
    programs = min(rows, _SUMS)
    to_x = torch.empty_like(x)
    sums = x.new_empty(programs, width, dtype=torch.float32) if wants_weight else scales
    tensors = (x, weight, scales, above.contiguous(), to_x, sums)
    launch(
        "triton_rows.norm_backward",
        programs,
        *tensors,
        rows,
        width,
        has_weight=wants_weight,
        block=_power(width),
        num_warps=8,
    )
    return to_x, sums.sum(0).to(weight.dtype) if wants_weight else None


def gate_forward(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up."""
    made = torch.empty_like(gate)
    launch("triton_rows.gate_forward", _programs(gate), gate, up, made, gate.numel(), block=_NUMBERS)
    return made


def gate_backward(gate: Tensor, up: Tensor, above: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients to gate and up."""
    made = torch.empty_like(gate), torch.empty_like(up)
    launch(
        "triton_rows.gate_backward", _programs(gate), gate, up, above.contiguous(), *made, gate.numel(), block=_NUMBERS
    )
    return made


def turn(x: Tensor, cos: Tensor, sin: Tensor, *, is_back: bool) -> Tensor:
    """x: [T, H, D] with its last dimension contiguous, cos, sin: [T, D]; returns [T, H, D]: each pair (i, i + D/2)
    turned by its angle, or the gradient before that."""
    length, heads, width = x.shape
    assert x.stride(2) == 1, "a head's numbers lie side by side"
    made = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    tensors = (x, cos.contiguous(), sin.contiguous(), made)
    sizes = (x.stride(0), x.stride(1), heads, width // 2)
    launch("triton_rows.turn", length, *tensors, *sizes, is_back=is_back, many=_power(heads), block=_power(width // 2))
    return made


def _power(width: int) -> int:
    """The next power of two, as Triton's blocks have it."""
    return max(2, 1 << (width - 1).bit_length())


def _programs(tensor: Tensor) -> int:
    return -(-tensor.numel() // _NUMBERS)
