"""Rotary positions of queries or keys for training: three passes over them instead of transformers' five, the result in
the order that attention reads, and nothing of them kept for the backward pass.

Equality: tests/models/kernels/test_rotary.py. Switch: `train.kernels: plain`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tunewright.models.kernels import gpu_rows
from tunewright.models.kernels.place import by_triton


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x: [T, H, D], cos, sin: [T, D] as transformers' rotary embeddings give them; returns [H, T, D]: each pair (i,
    i + D/2) turned by its angle."""
    found: Tensor = _Turn.apply(x, cos, sin)  # type: ignore[no-untyped-call]
    return found


class _Turn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        if by_triton(x):
            ctx.save_for_backward(cos, sin)
            return gpu_rows.turn(x, cos, sin, is_back=False).transpose(0, 1)
        half = x.shape[-1] // 2
        signed = torch.cat([-sin[:, :half], sin[:, half:]], -1)
        ctx.save_for_backward(cos, signed)
        return _turned(x.transpose(0, 1), cos, signed)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        cos, signed = ctx.saved_tensors
        half, above = cos.shape[-1] // 2, gradients[0].transpose(0, 1)
        if by_triton(cos):
            above = above if above.stride(2) == 1 else above.contiguous()
            return gpu_rows.turn(above, cos, signed, is_back=True), None, None
        return _turned(above, cos[:, None], torch.roll(signed, half, -1)[:, None]), None, None


def _turned(x: Tensor, cos: Tensor, signed: Tensor) -> Tensor:
    """x * cos + the other half of x * signed, in the order of x's dimensions."""
    made = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    torch.mul(x, cos, out=made)
    return made.addcmul_(torch.roll(x, x.shape[-1] // 2, -1), signed)
