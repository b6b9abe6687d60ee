"""The kernel of `adam`, in Triton: weight, gradient and codes are read once and written once."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _code(shares, borders):  # type: ignore[no-untyped-def]
    """How many of the 255 borders lie below each share, by halving."""
    found = tl.zeros(shares.shape, tl.int32)
    for power in tl.static_range(8):
        probe = found + (128 >> power)
        found = tl.where(shares > tl.load(borders + probe - 1), probe, found)
    return found


@triton.jit
def update(  # type: ignore[no-untyped-def]
    weight,
    gradient,
    first_codes,
    first_scales,
    second_codes,
    second_scales,
    first_shares,
    first_borders,
    second_shares,
    second_borders,
    count,
    seed,
    first_share,
    second_share,
    epsilon,
    decay,
    stride,
    root,
    rounds: tl.constexpr,
    rows: tl.constexpr,
    block: tl.constexpr,
):
    """`rows` blocks of `block` numbers: their moments decoded, moved and encoded, their weights moved."""
    row = tl.program_id(0).to(tl.int64) * rows + tl.arange(0, rows)
    at = row[:, None] * block + tl.arange(0, block)[None, :]
    inside = at < count
    has_row = row * block < count
    above = tl.load(gradient + at, mask=inside, other=0.0).to(tl.float32)
    scale = tl.load(first_scales + row, mask=has_row, other=0.0)
    first = tl.load(first_shares + tl.load(first_codes + at, mask=inside, other=0).to(tl.int32)) * scale[:, None]
    first = tl.where(inside, first + (above - first) * first_share, 0.0)
    scale = tl.load(second_scales + row, mask=has_row, other=0.0)
    second = tl.load(second_shares + tl.load(second_codes + at, mask=inside, other=0).to(tl.int32)) * scale[:, None]
    second = tl.where(inside, second + (above * above - second) * second_share, 0.0)

    scale = tl.max(tl.abs(first), 1)
    code = _code(first / tl.maximum(scale, 1.1754944e-38)[:, None], first_borders)
    tl.store(first_scales + row, scale, mask=has_row)
    tl.store(first_codes + at, code.to(tl.uint8), mask=inside)
    scale = tl.max(second, 1)
    code = _code(second / tl.maximum(scale, 1.1754944e-38)[:, None], second_borders)
    code = tl.where(second > 0, tl.maximum(code, 1), code)
    tl.store(second_scales + row, scale, mask=has_row)
    tl.store(second_codes + at, code.to(tl.uint8), mask=inside)

    wide = tl.load(weight + at, mask=inside, other=0.0).to(tl.float32) * (1 - decay)
    wide -= stride * first / (tl.sqrt(second) / root + epsilon)
    if rounds:
        noise = (tl.randint(seed, at.to(tl.int32)) & 65535).to(tl.int32)
        bits = wide.to(tl.int32, bitcast=True) + noise
        wide = (bits & -65536).to(tl.float32, bitcast=True)
    tl.store(weight + at, wide.to(weight.dtype.element_ty), mask=inside)
