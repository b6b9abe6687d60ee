"""A dataloader's worker process: it lives and dies with the training."""

from __future__ import annotations

import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1


def settle_worker() -> None:
    """Leaves Ctrl-C, which reaches the whole process group, to the training. SIGTERM stays: it is how Python ends the
    workers that are left at exit. On Linux the worker is killed with the training: until torch's own watchdog notices
    (5 s), it would keep the artifact's lock, and a second start would be refused."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()


def die_with_parent() -> None:
    """On Linux this process is killed when the one that started it ends, however that ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
