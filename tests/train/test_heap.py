"""Memory that a training on the CPU keeps beside its tensors: how often it is given back, how much oneDNN keeps."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tunewright.core.machine import has_fast_bfloat16
from tunewright.train import heap

CHILD = """
import psutil, torch
from tunewright.train.heap import give_back, keep_few_products
{limit}
held = psutil.Process().memory_info().rss
for length in range(300, 1000):
    torch.ones(length, 64, dtype=torch.bfloat16) @ torch.ones(64, 64, dtype=torch.bfloat16)
(give_back() or int)()
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
    assert grown("keep_few_products()") < 0.6 * grown("")


def test_what_the_environment_says_is_kept_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(heap._CAPACITY, "7")
    heap.keep_few_products()
    assert os.environ[heap._CAPACITY] == "7"
    monkeypatch.delenv(heap._CAPACITY)
    heap.keep_few_products()
    assert os.environ[heap._CAPACITY] == str(heap.COMPILED)


def test_memory_is_given_back_between_steps_but_not_too_often(monkeypatch: pytest.MonkeyPatch) -> None:
    now, times = [100.0], []
    monkeypatch.setattr(heap.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(heap, "give_back", lambda: lambda: times.append(now[0]))
    between = heap.BetweenSteps()
    for now[0] in (100.0, 100.5, 102.9, 103.0, 105.0, 106.5):
        between()
    assert times == [100.0, 103.0, 106.5]
    monkeypatch.setattr(heap, "give_back", lambda: None)
    heap.BetweenSteps()()  # another C library
