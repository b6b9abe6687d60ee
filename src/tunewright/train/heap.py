"""What a training on the CPU keeps beside its tensors: compiled products, and freed memory in the C library's heap.

oneDNN compiles every 16-bit product anew for each shape, nearly every micro-batch has lengths of its own, and 0.6 MB a
product stay (1,024 of them, if nothing is said: more than the target's LoRA training of a small model needs in all).
glibc keeps what is freed. Neither changes a number; figures: docs/results.md.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable

COMPILED = 128
"""Products that are kept: more than one micro-batch multiplies over and over in its layers."""
EVERY_S = 3.0
"""Between two returns of free memory: the pages must be fetched again, 0.1 s for a gigabyte."""
_CAPACITY = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


def keep_few_products() -> None:
    """Limits what oneDNN keeps, unless the environment says how much; without effect once it has multiplied."""
    os.environ.setdefault(_CAPACITY, str(COMPILED))


def give_back() -> Callable[[], int] | None:
    """glibc's malloc_trim, which returns free pages anywhere in the heap; None with another C library."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return None if trim is None else lambda: int(trim(0))


class BetweenSteps:
    """Gives free memory back when it is called, but not again before EVERY_S are over."""

    def __init__(self) -> None:
        self._give_back, self._last = give_back(), float("-inf")

    def __call__(self) -> None:
        now = time.monotonic()
        if self._give_back is not None and now - self._last >= EVERY_S:
            self._give_back()
            self._last = now
