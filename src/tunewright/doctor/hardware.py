"""CPU, GPU, memory, disk and port. No torch: what the system itself says."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import psutil

from tunewright.core import machine
from tunewright.core.files import human_bytes
from tunewright.doctor.facts import Fact

LITTLE_MEMORY = 4 * 10**9
"""A 135 M model trains in 1.7 GB and its chain peaks below 3 GB (docs/results.md)."""
LITTLE_DISK = 5 * 10**9
NO_DISK = 500 * 10**6


def cpu_fact(wanted: str, *, has_bfloat16: bool, has_gpu: bool) -> Fact:
    """`wanted`: model.dtype. Names the number format that follows from it on this CPU."""
    has = "multiplies bf16 in hardware" if has_bfloat16 else "no bf16 in hardware"
    chosen = ("bfloat16" if has_bfloat16 else "float32") if wanted == "auto" else wanted
    words = f"{machine.cpu_name()}, {machine.usable_cores()} cores, {has}"
    if has_gpu:
        return Fact(name="CPU", fact=words)
    words += f": weights in {chosen}"
    if chosen in ("bfloat16", "float16") and not has_bfloat16:
        fix = "set model.dtype to auto or float32: 16-bit arithmetic is emulated here and about ten times slower"
        return Fact(name="CPU", fact=words, verdict="warn", fix=fix)
    return Fact(name="CPU", fact=words)


def gpus() -> list[str]:
    """'name, memory' a GPU from nvidia-smi; names alone from the driver's files where that tool is absent."""
    tool = shutil.which("nvidia-smi")
    if tool:
        query = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]
        try:
            done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
        except (OSError, subprocess.SubprocessError):
            return list(machine.gpu_names())
        return [line.strip() for line in done.stdout.splitlines() if line.strip()]
    return list(machine.gpu_names())


def gpu_fact(found: Sequence[str], torch_version: str | None) -> Fact:
    """A GPU that torch cannot use is the usual reason for a slow run: the build says so in its version."""
    if not found:
        return Fact(name="GPU", fact="none: everything runs on the CPU")
    words = "; ".join(found)
    if torch_version and torch_version.endswith("+cpu"):
        fix = "install a CUDA build of torch (README, section GPU)"
        return Fact(name="GPU", fact=f"{words}; torch {torch_version} cannot use it", verdict="warn", fix=fix)
    return Fact(name="GPU", fact=words)


def torch_version() -> str | None:
    """From its metadata; None when it is not installed."""
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return None


def memory_fact(total: int, free: int) -> Fact:
    """total, free: bytes."""
    words = f"{human_bytes(free)} of {human_bytes(total)} free"
    if free < LITTLE_MEMORY:
        fix = "close other programs, or lower train.micro_batch_tokens and evaluate.batch_size"
        return Fact(name="memory", fact=words, verdict="warn", fix=fix)
    return Fact(name="memory", fact=words)


def memory() -> tuple[int, int]:
    """(total, available) bytes."""
    found = psutil.virtual_memory()
    return int(found.total), int(found.available)


def disk_fact(name: str, place: Path, free: int) -> Fact:
    """free: bytes on the file system of `place`."""
    words = f"{human_bytes(free)} free at {place}"
    if free >= LITTLE_DISK:
        return Fact(name=name, fact=words)
    fix = "free space, or `tunewright runs prune --keep 1`"
    return Fact(name=name, fact=words, verdict="fail" if free < NO_DISK else "warn", fix=fix)


def disk_free(place: Path) -> int:
    """Bytes free where `place` is or would be made."""
    existing = next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.exists())
    return shutil.disk_usage(existing).free


def writable_fact(place: Path) -> Fact:
    """Whether artifacts can be written beside the project file."""
    existing = next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.exists())
    if os.access(existing, os.W_OK):
        return Fact(name="project folder", fact=f"{place} can be written")
    return Fact(
        name="project folder", fact=f"{place} cannot be written", verdict="fail", fix="check the folder's permissions"
    )


def port_fact(host: str, port: int, *, required: bool) -> Fact:
    """Tries to listen once. `required`: a project asks for this port, so a busy one fails instead of warning."""
    place = f"{host}:{port}"
    if port == 0:
        return Fact(name="serve port", fact="0: any free one is taken")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        busy = error.errno == errno.EADDRINUSE
        words = f"{place} is in use" if busy else f"{place} cannot be opened: {error.strerror}"
        fix = "stop the other server, or choose another serve.port" if busy else "check serve.host and serve.port"
        return Fact(name="serve port", fact=words, verdict="fail" if required else "warn", fix=fix)
    return Fact(name="serve port", fact=f"{place} is free")
