"""Where a kernel computes: on a GPU by Triton and flash attention, elsewhere by torch's plain operations.

The memory plan walks a step on tensors without numbers, which lie on no GPU; inside `imagined_gpu` they count as if.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

_AMPERE = 8
"""The first generation that torch's flash attention and bfloat16 in Triton support."""
_imagines: list[bool] = []


@contextmanager
def imagined_gpu() -> Iterator[None]:
    """Inside, tensors without numbers are computed as on a GPU."""
    _imagines.append(True)
    try:
        yield
    finally:
        _imagines.pop()


def is_blank(tensor: Tensor) -> bool:
    """Whether it has a shape and no numbers."""
    return isinstance(tensor, FakeTensor)


def on_gpu(tensor: Tensor) -> bool:
    """Whether it is computed on an NVIDIA GPU that this folder's kernels for GPUs run on."""
    if is_blank(tensor):
        return bool(_imagines)
    return tensor.is_cuda and _is_supported(tensor.device)


def by_triton(tensor: Tensor) -> bool:
    """Whether it is computed by the functions of `gpu_rows`."""
    return on_gpu(tensor) and (is_blank(tensor) or _has_triton())


def launch(kernel: str, programs: int, *arguments: Any, **settings: Any) -> None:
    """Runs a kernel of this folder, `module.name`, in `programs` programs on the first tensor's device; tensors without
    numbers need none."""
    first: Tensor = arguments[0]
    if is_blank(first) or not programs:
        return
    module, name = kernel.split(".")
    run = getattr(import_module(f"tunewright.models.kernels.{module}"), name)[(programs,)]  # Triton may be missing
    with torch.cuda.device(first.device) if first.is_cuda else nullcontext():  # without a GPU: Triton's interpreter
        run(*arguments, **settings)


@cache
def _is_supported(device: torch.device) -> bool:
    return torch.version.hip is None and torch.cuda.get_device_capability(device)[0] >= _AMPERE


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None
