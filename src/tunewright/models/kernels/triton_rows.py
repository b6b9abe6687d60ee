"""The kernels of `gpu_rows`, in Triton. Every number is read and written once; sums and products are float32 inside."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def norm_forward(x, weight, made, scales, width, epsilon, block: tl.constexpr):  # type: ignore[no-untyped-def]
    """One row: its norm, and 1 / rms of it."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, block)
    inside = at < width
    wide = tl.load(x + row * width + at, mask=inside, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(wide * wide, 0) / width + epsilon)
    tl.store(scales + row, scale)
    unit = (wide * scale).to(made.dtype.element_ty).to(tl.float32)  # rounded as transformers does
    factor = tl.load(weight + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(made + row * width + at, unit * factor, mask=inside)


@triton.jit
def norm_backward(  # type: ignore[no-untyped-def]
    x, weight, scales, above, to_x, to_weight, rows, width, has_weight: tl.constexpr, block: tl.constexpr
):
    """Every so many rows: gradients to them, and the sum of those to the weight."""
    first = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, block)
    inside = at < width
    factor = tl.load(weight + at, mask=inside, other=0.0).to(tl.float32)
    total = tl.zeros([block], tl.float32)
    for row in range(first, rows, tl.num_programs(0)):
        place = row * width + at
        scale = tl.load(scales + row)
        unit = tl.load(x + place, mask=inside, other=0.0).to(tl.float32) * scale
        gradient = tl.load(above + place, mask=inside, other=0.0).to(tl.float32)
        if has_weight:
            total += gradient * unit
        gradient *= factor
        along = tl.sum(gradient * unit, 0) / width
        tl.store(to_x + place, (gradient - unit * along) * scale, mask=inside)
    if has_weight:
        tl.store(to_weight + first * width + at, total, mask=inside)


@triton.jit
def gate_forward(gate, up, made, count, block: tl.constexpr):  # type: ignore[no-untyped-def]
    """silu(gate) * up of `block` numbers."""
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = at < count
    wide = tl.load(gate + at, mask=inside, other=0.0).to(tl.float32)
    other = tl.load(up + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(made + at, wide * tl.sigmoid(wide) * other, mask=inside)


@triton.jit
def gate_backward(gate, up, above, to_gate, to_up, count, block: tl.constexpr):  # type: ignore[no-untyped-def]
    """Gradients to `block` numbers of gate and up."""
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = at < count
    wide = tl.load(gate + at, mask=inside, other=0.0).to(tl.float32)
    other = tl.load(up + at, mask=inside, other=0.0).to(tl.float32)
    gradient = tl.load(above + at, mask=inside, other=0.0).to(tl.float32)
    share = tl.sigmoid(wide)
    tl.store(to_gate + at, gradient * other * share * (1 + wide * (1 - share)), mask=inside)
    tl.store(to_up + at, gradient * wide * share, mask=inside)


@triton.jit
def turn(  # type: ignore[no-untyped-def]
    x, cos, sin, made, row_step, head_step, heads, half, is_back: tl.constexpr, many: tl.constexpr, block: tl.constexpr
):
    """All heads of one position, turned by its angles or back."""
    row = tl.program_id(0).to(tl.int64)
    head = tl.arange(0, many)[:, None]
    at = tl.arange(0, block)[None, :]
    inside = (head < heads) & (at < half)
    turns = row * 2 * half + at
    low_cos = tl.load(cos + turns, mask=at < half, other=0.0).to(tl.float32)
    high_cos = tl.load(cos + turns + half, mask=at < half, other=0.0).to(tl.float32)
    low_sin = tl.load(sin + turns, mask=at < half, other=0.0).to(tl.float32)
    high_sin = tl.load(sin + turns + half, mask=at < half, other=0.0).to(tl.float32)
    source = x + row * row_step + head * head_step + at
    low = tl.load(source, mask=inside, other=0.0).to(tl.float32)
    high = tl.load(source + half, mask=inside, other=0.0).to(tl.float32)
    if is_back:
        turned_low = low * low_cos + high * high_sin
        turned_high = high * high_cos - low * low_sin
    else:
        turned_low = low * low_cos - high * low_sin
        turned_high = high * high_cos + low * high_sin
    target = made + (row * heads + head) * 2 * half + at
    tl.store(target, turned_low, mask=inside)
    tl.store(target + half, turned_high, mask=inside)
