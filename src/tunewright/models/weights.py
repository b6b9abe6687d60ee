"""Reading safetensors weights straight into the wanted number format, a few megabytes at a time.

The usual way maps the file and converts whole tensors: from fp32 to bf16 the process then holds three times the size
of the bf16 weights (tests/models/test_load.py). Here it holds the finished tensors and one small buffer, and every
number is looked at on its way: NaN, infinity and values that the wanted format cannot hold are errors that name the
tensor.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from tunewright.core.errors import ArtifactError
from tunewright.models.source import stored_tensors

BUFFER_BYTES = 1 << 22
"""What is read at once: the only memory needed beside the finished tensors."""
_FORMATS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True)
class _Stored:
    """One tensor of a file. start: its first byte, counted from the file's."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int


def read_weights(files: Sequence[Path], *, dtype: torch.dtype) -> dict[str, Tensor]:
    """Every tensor of these safetensors files by name, on the CPU; numbers with a fraction in `dtype`, others as they
    are stored.

    Raises ArtifactError for a damaged file, a name that stands in two files, NaN or infinite weights, and weights
    that are too large for `dtype`.
    """
    found: dict[str, Tensor] = {}
    for path in files:
        with path.open("rb") as handle:
            for stored in _listed(path):
                if stored.name in found:
                    raise _damaged(path, f"the tensor {stored.name} stands in two files")
                found[stored.name] = _read(handle, stored, dtype, path)
    return found


def _listed(path: Path) -> list[_Stored]:
    """The tensors in the order of the file."""
    known = stored_tensors(path)
    with path.open("rb") as handle:
        size = int.from_bytes(handle.read(8), "little")
        header: dict[str, Any] = json.loads(handle.read(size))
    found = []
    for name, (kind, shape) in known.items():
        if kind not in _FORMATS:
            raise _damaged(path, f"the tensor {name} has the number format {kind}, which is not supported")
        found.append(_Stored(name, _FORMATS[kind], shape, 8 + size + int(header[name]["data_offsets"][0])))
    return sorted(found, key=lambda stored: stored.start)


def _read(handle: IO[bytes], stored: _Stored, dtype: torch.dtype, path: Path) -> Tensor:
    wanted = dtype if stored.dtype.is_floating_point else stored.dtype
    target = torch.empty(prod(stored.shape), dtype=wanted)
    step = BUFFER_BYTES // stored.dtype.itemsize
    buffer = None if wanted == stored.dtype else torch.empty(min(step, len(target)), dtype=stored.dtype)
    handle.seek(stored.start)
    for place in target.split(step) if len(target) else ():
        part = place if buffer is None else buffer[: len(place)]
        _fill(handle, part, path)
        if buffer is not None:
            place.copy_(part)
        if wanted.is_floating_point and not _is_finite(place):
            raise _unusable(part, stored.name, place.dtype, path)
    return target.view(stored.shape)


def _fill(handle: IO[bytes], part: Tensor, path: Path) -> None:
    view = part.view(torch.uint8).numpy().data
    while view:
        count = handle.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise _damaged(path, "the file ends too early")
        view = view[count:]


def _is_finite(part: Tensor) -> bool:
    """Smallest and largest are NaN where one value is; 20 times faster than asking every value."""
    return all(bool(torch.isfinite(end)) for end in part.aminmax())


def _unusable(part: Tensor, name: str, wanted: torch.dtype, path: Path) -> ArtifactError:
    """part: the numbers as they are stored."""
    if not _is_finite(part):
        return _damaged(path, f"the tensor {name} holds NaN or infinite weights")
    return ArtifactError(
        f"the tensor {name} holds weights that are too large for {str(wanted).removeprefix('torch.')}",
        where=str(path),
        fix="set model.dtype to bfloat16 or float32",
    )


def _damaged(path: Path, problem: str) -> ArtifactError:
    return ArtifactError(problem, where=str(path), fix="fetch or convert the model again")
