"""torch's fp32 `linear` against the prepacked oneDNN layer at the built-in model's shapes, alternating, median.

    python benchmarks/packed_linear.py

Prints microseconds and the ratio for each shape and number of rows. Asserts nothing.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

from tunewright.core.machine import describe
from tunewright.models.packed_linear import PackedLinear

SHAPES = ((576, 1536), (1536, 576), (576, 192), (576, 49152))
ROWS = (1, 8, 32, 128)
ROUNDS = 7


def seconds(call: Callable[[], object]) -> float:
    """Of one call, over enough repeats to be measured."""
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < 0.05:
        call()
        count += 1
    return (time.perf_counter() - start) / count


def main() -> None:
    """Every shape with every number of rows; weights rotate so that they come from memory, as in a model."""
    print(describe().model_dump_json())
    for inside, outside in SHAPES:
        plain = [torch.nn.Linear(inside, outside, bias=False) for _ in range(2 if outside > 9999 else 24)]
        packed = [PackedLinear(layer) for layer in plain]
        for rows in ROWS:
            x = torch.randn(rows, inside)
            with torch.inference_mode():
                times = [[seconds(partial(_apply, layers, x)) for layers in (plain, packed)] for _ in range(ROUNDS)]
            one, two = (statistics.median(column) * 1e6 / len(plain) for column in zip(*times, strict=True))
            shape = f"{inside:>5} x {outside:<5} rows {rows:<4}"
            print(f"{shape} linear {one:8.0f} us  packed {two:8.0f} us  {one / two:.2f}x")


def _apply(layers: list[torch.nn.Module], x: torch.Tensor) -> None:
    for layer in layers:
        layer(x)


if __name__ == "__main__":
    main()
