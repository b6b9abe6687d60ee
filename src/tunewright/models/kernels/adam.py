"""One AdamW update of one weight tensor whose two moments are kept in 8 bits (Dettmers et al. 2022, arXiv 2110.02861).

Moments are cut into blocks of 256 numbers, each with its largest as a float32 scale; a code stands for a share of it,
seven decades fine around zero. A second moment is never rounded down to zero: the step is divided by its root. Weights
in bfloat16 are rounded up or down at random, in proportion, as an update is mostly smaller than the distance of two
bfloat16 numbers and would be lost (Gupta et al. 2015, arXiv 1502.02551). On a GPU one pass (triton_adam), else in
pieces of plain torch. Equality of both, and of what they keep: tests/models/kernels/test_adam.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from tunewright.models.kernels.place import by_triton, launch

BLOCK = 256
"""Numbers that share a scale."""
_DECADES = 7
_AT_ONCE = 1 << 22
"""Numbers whose float32 copies are there at once; a multiple of BLOCK."""
_BLOCKS = 4
"""Blocks of one Triton program."""


@dataclass(frozen=True)
class Moments:
    """codes: [n] uint8; scales: [ceil(n / BLOCK)] float32; of the first and the second moment."""

    first_codes: Tensor
    first_scales: Tensor
    second_codes: Tensor
    second_scales: Tensor


@dataclass(frozen=True)
class Rates:
    """AdamW's numbers (Loshchilov and Hutter 2019, arXiv 1711.05101). step: counted from 1."""

    rate: float
    betas: tuple[float, float]
    epsilon: float
    decay: float
    step: int

    @property
    def stride(self) -> float:
        """The learning rate over the first moment's bias correction."""
        return self.rate / (1 - self.betas[0] ** self.step)

    @property
    def root(self) -> float:
        """The root of the second moment's bias correction."""
        return float((1 - self.betas[1] ** self.step) ** 0.5)


def zero_moments(weight: Tensor) -> Moments:
    """Of a weight that was never updated, on its device."""
    size, blocks = weight.numel(), -(-weight.numel() // BLOCK)
    codes = [
        torch.full((size,), _zero(is_signed), dtype=torch.uint8, device=weight.device) for is_signed in (True, False)
    ]
    scales = [torch.zeros(blocks, dtype=torch.float32, device=weight.device) for _ in range(2)]
    return Moments(codes[0], scales[0], codes[1], scales[1])


@torch.no_grad()
def update(weight: Tensor, gradient: Tensor, moments: Moments, rates: Rates) -> None:
    """Changes `weight` and `moments` in place. weight: contiguous, bfloat16 or float32; gradient: of its shape."""
    if by_triton(weight):
        _by_triton(weight, gradient.contiguous(), moments, rates)
        return
    flat, above = weight.view(-1), gradient.reshape(-1)
    for start in range(0, len(flat), _AT_ONCE):
        piece = slice(start, start + _AT_ONCE)
        blocks = slice(start // BLOCK, -(-min(start + _AT_ONCE, len(flat)) // BLOCK))
        _update_piece(flat[piece], above[piece], Moments(*_cut(moments, piece, blocks)), rates)


def _cut(moments: Moments, piece: slice, blocks: slice) -> Iterator[Tensor]:
    yield moments.first_codes[piece]
    yield moments.first_scales[blocks]
    yield moments.second_codes[piece]
    yield moments.second_scales[blocks]


def _update_piece(weight: Tensor, gradient: Tensor, moments: Moments, rates: Rates) -> None:
    above = gradient.float()
    first = decode(moments.first_codes, moments.first_scales, is_signed=True).lerp_(above, 1 - rates.betas[0])
    second = decode(moments.second_codes, moments.second_scales, is_signed=False)
    second.lerp_(above.square(), 1 - rates.betas[1])
    encode(first, moments.first_codes, moments.first_scales, is_signed=True)
    encode(second, moments.second_codes, moments.second_scales, is_signed=False)
    wide = weight.to(torch.float32, copy=True).mul_(1 - rates.rate * rates.decay)
    wide.addcdiv_(first, second.sqrt_().div_(rates.root).add_(rates.epsilon), value=-rates.stride)
    weight.copy_(rounded_at_random(wide) if weight.dtype == torch.bfloat16 else wide)


def decode(codes: Tensor, scales: Tensor, *, is_signed: bool) -> Tensor:
    """[n] float32."""
    shares = shares_of_codes(is_signed, codes.device)[codes.int()]
    return shares.mul_(_spread(scales, len(codes)))


def encode(values: Tensor, codes: Tensor, scales: Tensor, *, is_signed: bool) -> None:
    """Fills `codes` and `scales` with the nearest codes of `values` [n] float32."""
    padded = torch.nn.functional.pad(values, (0, -len(values) % BLOCK)).view(-1, BLOCK)
    torch.amax(padded.abs(), 1, out=scales)
    shares = values / _spread(scales, len(values)).clamp_(min=torch.finfo(torch.float32).tiny)
    found = torch.bucketize(shares, borders(is_signed, codes.device), out_int32=True)
    codes.copy_(found if is_signed else torch.maximum(found, (values > 0).int()))


def _spread(scales: Tensor, count: int) -> Tensor:
    return scales.repeat_interleave(BLOCK)[:count]


def rounded_at_random(values: Tensor) -> Tensor:
    """float32 -> bfloat16: up with a probability of how near the upper neighbour is."""
    bits = values.view(torch.int32)
    noise = torch.randint(0, 1 << 16, bits.shape, dtype=torch.int32, device=bits.device)
    return bits.add(noise).bitwise_and_(-(1 << 16)).view(torch.float32).to(torch.bfloat16)


@cache
def shares_of_codes(is_signed: bool, device: torch.device) -> Tensor:
    """[256] float32, rising: what each code stands for."""
    each = 1 if is_signed else 2
    positive = [
        10.0 ** (decade + 1 - _DECADES) * (0.1 + 0.9 * (part + 0.5) / (each << decade))
        for decade in range(_DECADES)
        for part in range(each << decade)
    ]
    negative = [-share for share in positive] if is_signed else []
    return torch.tensor(sorted([*positive, *negative, 0.0, 1.0]), dtype=torch.float32, device=device)


@cache
def borders(is_signed: bool, device: torch.device) -> Tensor:
    """[255] float32: half way between the codes."""
    shares = shares_of_codes(is_signed, device)
    return (shares[1:] + shares[:-1]) / 2


@cache
def _zero(is_signed: bool) -> int:
    """The code of zero."""
    return int((shares_of_codes(is_signed, torch.device("cpu")) == 0).nonzero())


def _by_triton(weight: Tensor, gradient: Tensor, moments: Moments, rates: Rates) -> None:
    tables = [make(is_signed, weight.device) for is_signed in (True, False) for make in (shares_of_codes, borders)]
    numbers = (
        1 - rates.betas[0],
        1 - rates.betas[1],
        rates.epsilon,
        rates.rate * rates.decay,
        rates.stride,
        rates.root,
    )
    seed = int(torch.randint(1 << 31, ()))  # of the processor's generator, which a checkpoint keeps
    tensors = (*moments.__dict__.values(), *tables)
    programs = -(-weight.numel() // (BLOCK * _BLOCKS))
    settings = {"rounds": weight.dtype == torch.bfloat16, "rows": _BLOCKS, "block": BLOCK}
    launch("triton_adam.update", programs, weight, gradient, *tensors, weight.numel(), seed, *numbers, **settings)
