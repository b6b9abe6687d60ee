"""CPU, GPU, memory, disk and port. No torch: what the system itself says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import psutil

from tunewright.core import machine
from tunewright.core.errors import ResourceError
from tunewright.core.files import human_bytes
from tunewright.core.listen import bind
from tunewright.doctor.facts import Fact

LITTLE_MEMORY = 4 * 10**9
"""A 135 M model trains in 1.7 GB and its chain peaks below 3 GB (docs/results.md)."""
LITTLE_DISK = 5 * 10**9
NO_DISK = 500 * 10**6
FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "neon", "asimd", "bf16", "sve")
"""CPU instructions that decide how fast a model is multiplied, as Linux names them."""


def cpu_fact(wanted: str, *, has_bfloat16: bool, has_gpu: bool) -> Fact:
    """`wanted`: model.dtype. Names the instructions and the number format that follows from them on this CPU."""
    has = "multiplies bf16 in hardware" if has_bfloat16 else "no bf16 in hardware"
    features = [name for name in FEATURES if name in machine.cpu_flags()]
    has += f" ({', '.join(features)})" if features else ""
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


def driver() -> tuple[str, str]:
    """(version of the NVIDIA driver, newest CUDA that it runs), from nvidia-smi; empty where it is not there."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "", ""
    try:
        shown = subprocess.run([tool], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return "", ""
    version, newest = (re.search(rf"{name} Version:\s*([0-9.]+)", shown) for name in ("Driver", "CUDA"))
    return version[1] if version else "", newest[1] if newest else ""


def driver_fact(version: str, newest: str, torch_version: str | None) -> Fact:
    """Whether the driver runs the CUDA that torch was built with: `+cu130` is CUDA 13.0. A newer minor version of the
    same major one runs on an older driver (CUDA's minor version compatibility)."""
    words = f"driver {version or 'not known'}" + (f", CUDA up to {newest}" if newest else "")
    built = re.search(r"\+cu(\d+)(\d)$", torch_version or "")
    if not built:
        return Fact(name="CUDA", fact=words)
    words += f"; torch is built for CUDA {built[1]}.{built[2]}"
    if newest and int(built[1]) > int(newest.partition(".")[0]):
        fix = f"update the driver, or install a torch built for CUDA {newest.partition('.')[0]}"
        return Fact(name="CUDA", fact=words, verdict="fail", fix=fix)
    return Fact(name="CUDA", fact=words)


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
    if port == 0:
        return Fact(name="serve port", fact="0: any free one is taken")
    try:
        bind(host, port, section="serve").close()
    except ResourceError as error:
        return Fact(name="serve port", fact=error.problem, verdict="fail" if required else "warn", fix=error.fix)
    return Fact(name="serve port", fact=f"{host}:{port} is free")
