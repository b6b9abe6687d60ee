"""How much memory a variant takes while its engine loads it and generates."""

from __future__ import annotations

import gc
import threading
from contextlib import suppress
from types import TracebackType

import psutil
import torch

from tunewright.core.machine import heap_trim

INTERVAL_S = 0.05


class PeakMemory:
    """`with PeakMemory() as peak:` ... `peak.bytes`: the highest memory inside the block beyond what was in use before.

    On CUDA the memory of the GPU that torch allocated, else the resident size of this process and of those it follows,
    looked at every 50 ms: weights that the engine maps from a file count once they were read.
    Another thread's allocations count as well.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._done = threading.Event()
        self._before = 0
        self._processes = [psutil.Process()]
        self._thread = threading.Thread(target=self._watch, name="peak-memory", daemon=True)

    def __enter__(self) -> PeakMemory:
        release_memory()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        else:
            self._before = self._resident()
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if torch.cuda.is_available():
            self.bytes = torch.cuda.max_memory_allocated() - self._before
            return
        self._done.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._done.wait(INTERVAL_S):
            self._look()

    def follow(self, process_id: int) -> None:
        """Counts another process as well, from now on."""
        self._processes.append(psutil.Process(process_id))

    def _resident(self) -> int:
        total = 0
        for process in self._processes:
            with suppress(psutil.NoSuchProcess):
                total += int(process.memory_info().rss)
        return total

    def _look(self) -> None:
        self.bytes = max(self.bytes, self._resident() - self._before)


def release_memory() -> None:
    """Gives freed memory back to the system, so that it does not hide what is allocated next."""
    gc.collect()
    if (trim := heap_trim()) is not None:
        trim()
