"""Memory that a training on the CPU keeps beside its tensors: how often it is given back, how much oneDNN keeps."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tunewright.core.machine import has_fast_bfloat16
from tunewright.models.packing import attention_shapes
from tunewright.models.tokens import IGNORED, Example
from tunewright.train import heap

CHILD = """
import psutil, torch
from tunewright.core.machine import heap_trim
from tunewright.train.heap import keep_few_products
{limit}
held = psutil.Process().memory_info().rss
for length in range(300, 1000):
    torch.ones(length, 64, dtype=torch.bfloat16) @ torch.ones(64, 64, dtype=torch.bfloat16)
(heap_trim() or int)()
print(psutil.Process().memory_info().rss - held)
"""


def grown(limit: str) -> int:
    """Bytes after 700 products of different shapes."""
    environment = {key: value for key, value in os.environ.items() if key != heap._CAPACITY}
    environment |= {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CHILD.format(limit=limit)]
    return int(subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=True, timeout=120).stdout)


@pytest.mark.skipif(
    not has_fast_bfloat16(), reason="this CPU multiplies no bfloat16, so oneDNN compiles other products"
)
def test_few_compiled_products_are_kept() -> None:
    assert grown("keep_few_products(100)") < 0.6 * grown("")


def example(length: int, first: int) -> Example:
    return Example((first, *range(length - 1)), (IGNORED,) * (length - 1) + (1,), "")


@pytest.mark.parametrize(
    ("lengths", "shapes"),
    [([], 0), ([30, 30, 30], 1), ([30, 40, 50, 128], 4), ([300], 3), ([300, 300, 301], 4), ([512] * 4, 4)],
)
def test_as_many_as_the_micro_batch_with_the_most_shapes_needs(
    monkeypatch: pytest.MonkeyPatch, lengths: list[int], shapes: int
) -> None:
    """300 queries go as 128 that see 128, 128 that see 256, and 44 that see 300."""
    monkeypatch.setattr(heap, "FEWEST", 0)
    step = [example(length, 500 + number) for number, length in enumerate(lengths)]
    found = heap.products_kept([step, step[:1]], max_tokens=4096, share_prefix=True)
    assert found == heap.OTHERS + heap.A_BLOCK * shapes


def test_rows_with_a_shared_start_see_it() -> None:
    """A start of 20 by itself, and two rows behind it."""
    rows = [Example((*range(20), first, *range(9)), (IGNORED,) * 29 + (1,), "") for first in (70, 80)]
    assert attention_shapes(rows, share_prefix=True) == {(20, 20), (10, 30)}
    assert attention_shapes(rows, share_prefix=False) == {(30, 30)}


def test_what_the_environment_says_is_kept_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(heap._CAPACITY, "7")
    heap.keep_few_products(200)
    assert os.environ[heap._CAPACITY] == "7"
    monkeypatch.delenv(heap._CAPACITY)
    heap.keep_few_products(200)
    assert os.environ[heap._CAPACITY] == "200"


def test_memory_is_given_back_between_steps_but_not_too_often(monkeypatch: pytest.MonkeyPatch) -> None:
    now, times = [100.0], []
    monkeypatch.setattr(heap.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(heap, "heap_trim", lambda: lambda: times.append(now[0]))
    between = heap.BetweenSteps()
    for now[0] in (100.0, 100.5, 102.9, 103.0, 105.0, 106.5):
        between()
    assert times == [100.0, 103.0, 106.5]
    monkeypatch.setattr(heap, "heap_trim", lambda: None)
    heap.BetweenSteps()()  # another C library
