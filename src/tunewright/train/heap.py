"""What a training on the CPU keeps beside its tensors: compiled products, and freed memory in the C library's heap.

oneDNN compiles every 16-bit product anew for each shape, nearly every micro-batch has lengths of its own, and 0.6 MB a
product stay: 1,024 of them, if nothing is said. A micro-batch needs its own while it runs, in every layer; with fewer,
every layer compiles them again, which takes as long as the training. glibc keeps what is freed. Neither changes a
number; figures: docs/results.md, docs/log.md.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from functools import partial

from tunewright.core.machine import heap_trim
from tunewright.models.packing import attention_shapes, micro_batches
from tunewright.models.tokens import Example

A_BLOCK = 6
"""Products of a block of attention, forward and backward."""
OTHERS = 100
"""Products of the layers and the output layer, of a micro-batch's own length, and some to spare."""
FEWEST, MOST = 256, 1024
"""oneDNN reads the number once: a later training or evaluation in the same process must do with it as well."""
EVERY_S = 3.0
"""Between two returns of free memory: the pages must be fetched again, 0.1 s for a gigabyte."""
_CAPACITY = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


def products_kept(steps: Iterable[Sequence[Example]], *, max_tokens: int, share_prefix: bool) -> int:
    """How many compiled products are worth keeping: as many as the micro-batch with the most shapes needs. steps: rows
    of each optimizer step."""
    cut = partial(micro_batches, max_tokens=max_tokens, share_prefix=share_prefix)
    groups = (group for step in steps for group in cut(step))
    shapes = (len(attention_shapes(group, share_prefix=share_prefix)) for group in groups)
    return min(MOST, max(FEWEST, A_BLOCK * max(shapes, default=0) + OTHERS))


def keep_few_products(count: int) -> None:
    """Limits how many oneDNN keeps, unless the environment says how many; without effect once it has multiplied."""
    os.environ.setdefault(_CAPACITY, str(count))


class BetweenSteps:
    """Gives free memory back when it is called, but not again before EVERY_S are over."""

    def __init__(self) -> None:
        self._trim, self._last = heap_trim(), float("-inf")

    def __call__(self) -> None:
        now = time.monotonic()
        if self._trim is not None and now - self._last >= EVERY_S:
            self._trim()
            self._last = now
