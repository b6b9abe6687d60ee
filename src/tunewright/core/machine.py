"""Facts about this machine: what a measurement needs beside it, never host or user names."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
from pydantic import BaseModel


class Machine(BaseModel):
    """The machine a figure was measured on."""

    cpu: str
    cores: int
    memory_bytes: int
    system: str
    python: str
    gpus: tuple[str, ...] = ()


def cpu_flags() -> frozenset[str]:
    """CPU feature names as Linux prints them; empty elsewhere."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("flags"):
                return frozenset(line.partition(":")[2].split())
    except OSError:
        pass
    return frozenset()


def has_fast_bfloat16() -> bool:
    """Whether the CPU multiplies bf16 in hardware; without it bf16 is ten times slower than fp32 (docs/log.md)."""
    return bool(cpu_flags() & {"avx512_bf16", "amx_bf16"})


def cpu_name() -> str:
    """Model name of the CPU."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def heap_trim() -> Callable[[], int] | None:
    """glibc's malloc_trim(0), which gives free pages anywhere in the heap back to the system; None with another C
    library."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    return None if trim is None else lambda: int(trim(0))


def gpu_names() -> tuple[str, ...]:
    """Names of NVIDIA GPUs from the driver's own files: no torch, no subprocess."""
    names = []
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        for line in path.read_text().splitlines():
            if line.startswith("Model:"):
                names.append(line.partition(":")[2].strip())
    return tuple(names)


def describe() -> Machine:
    """Reads the facts once."""
    return Machine(
        cpu=cpu_name(),
        cores=usable_cores(),
        memory_bytes=psutil.virtual_memory().total,
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        gpus=gpu_names(),
    )


def peak_memory_bytes() -> int:
    """Highest resident size of this process so far."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024
