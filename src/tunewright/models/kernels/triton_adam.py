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
def _decoded(codes, scales, shares, inside, has_row):  # type: ignore[no-untyped-def]
    scale = tl.load(scales, mask=has_row, other=0.0)
    return tl.load(shares + tl.load(codes, mask=inside, other=0).to(tl.int32)) * scale[:, None]


@triton.jit
def _encode(values, codes, scales, borders, inside, has_row, keeps: tl.constexpr):  # type: ignore[no-untyped-def]
    """keeps: what is above zero stays above it."""
    scale = tl.max(tl.abs(values), 1)
    code = _code(values / tl.maximum(scale, 1.1754944e-38)[:, None], borders)
    if keeps:
        code = tl.where(values > 0, tl.maximum(code, 1), code)
    tl.store(scales, scale, mask=has_row)
    tl.store(codes, code.to(tl.uint8), mask=inside)


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
    inside, has_row = at < count, row * block < count
    above = tl.load(gradient + at, mask=inside, other=0.0).to(tl.float32)
    first = _decoded(first_codes + at, first_scales + row, first_shares, inside, has_row)
    first = tl.where(inside, first + (above - first) * first_share, 0.0)
    second = _decoded(second_codes + at, second_scales + row, second_shares, inside, has_row)
    second = tl.where(inside, second + (above * above - second) * second_share, 0.0)
    _encode(first, first_codes + at, first_scales + row, first_borders, inside, has_row, False)
    _encode(second, second_codes + at, second_scales + row, second_borders, inside, has_row, True)

    wide = tl.load(weight + at, mask=inside, other=0.0).to(tl.float32) * (1 - decay)
    wide -= stride * first / (tl.sqrt(second) / root + epsilon)
    if rounds:
        noise = (tl.randint(seed, at.to(tl.int32)) & 65535).to(tl.int32)
        bits = wide.to(tl.int32, bitcast=True) + noise
        wide = (bits & -65536).to(tl.float32, bitcast=True)
    tl.store(weight + at, wide.to(weight.dtype.element_ty), mask=inside)
