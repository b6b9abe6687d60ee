"""The machine that is planned for: this one, or another that is given in words."""

from __future__ import annotations

import re
from dataclasses import dataclass

import psutil
import torch

from tunewright.core import machine
from tunewright.core.errors import ConfigError
from tunewright.train import memory
from tunewright.train.footprint.parts import Device

_SIZE = re.compile(r"(?:(cpu|gpu):)?\s*([0-9]+(?:\.[0-9]+)?)\s*(GB|GiB|G)?", re.IGNORECASE)
_UNITS = {"gib": 1 << 30}


@dataclass(frozen=True)
class Target:
    """name: in words; bytes: that a training may take on each device; devices: how many; host: the machine's memory
    beside GPUs, 0 where it is not known; is_here: whether it is this machine."""

    name: str
    device: Device
    bytes: int
    devices: int
    host: int
    is_here: bool


def target(given: str | None, devices: int | None) -> Target:
    """given: `24GB` (a GPU), `cpu:64GB`; None: this machine. Raises ConfigError for anything else."""
    if devices is not None and devices < 1:
        raise ConfigError("--devices needs at least one", fix="--devices 2")
    return _here(devices) if given is None else _there(given, devices or 1)


def _here(devices: int | None) -> Target:
    if torch.cuda.is_available():
        sizes = [torch.cuda.get_device_properties(i).total_memory for i in range(torch.cuda.device_count())]
        name = f"{torch.cuda.get_device_name(0)}, {min(sizes) / 1e9:.0f} GB"
        host = int(psutil.virtual_memory().total)
        return Target(name, "cuda", int(min(sizes)), devices or len(sizes), host, is_here=True)
    room = memory.available(on_gpu=False)
    count = devices or 1
    name = f"{machine.cpu_name()}, {machine.usable_cores()} cores, {room / 1e9:.1f} GB free"
    return Target(name, "cpu", room // count, count, 0, is_here=True)


def _there(given: str, devices: int) -> Target:
    found = _SIZE.fullmatch(given.strip())
    if found is None:
        raise ConfigError(f"--memory does not understand '{given}'", fix="--memory 24GB for a GPU, cpu:64GB for a CPU")
    size = round(float(found[2]) * _UNITS.get((found[3] or "GB").lower(), 10**9))
    is_cpu = (found[1] or "gpu").lower() == "cpu"
    name = f"{'a CPU' if is_cpu else 'a GPU'} with {size / 1e9:g} GB"
    return Target(name, "cpu" if is_cpu else "cuda", size, devices, 0, is_here=False)
