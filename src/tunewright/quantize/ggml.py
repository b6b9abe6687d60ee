"""ggml's own block quantizers, for the formats that the `gguf` package cannot write (K-quants, Q5_0).

They are part of every llama.cpp and exported by the library inside the `xllamacpp` wheel: `ggml_quantize_chunk` of
ggml.h, the function that llama-quantize calls. Without that wheel, `llama-quantize` on PATH makes the file.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from tunewright.core.errors import MissingExtraError
from tunewright.quantize.scheme import QuantizeError

PROGRAM = "llama-quantize"
LIMIT_S = 3600.0
_IN_PYTHON = frozenset({GGMLQuantizationType.F32, GGMLQuantizationType.F16, GGMLQuantizationType.BF16,
                        GGMLQuantizationType.Q8_0, GGMLQuantizationType.Q4_0})  # fmt: skip


@cache
def _native() -> Any:
    """`ggml_quantize_chunk(type, source, target, first_row, rows, width, importance) -> bytes`, or None."""
    if find_spec("xllamacpp") is None:
        return None
    import xllamacpp.xllamacpp

    try:
        call = ctypes.CDLL(xllamacpp.xllamacpp.__file__).ggml_quantize_chunk
    except (OSError, AttributeError):  # a build of the wheel that does not export it
        return None
    long = ctypes.c_int64
    call.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, long, long, long, ctypes.c_void_p]
    call.restype = ctypes.c_size_t
    return call


def has_native() -> bool:
    """Whether ggml's quantizers can be called in this process."""
    return _native() is not None


def check_k_quants() -> None:
    """Raises MissingExtraError where neither ggml's quantizers nor llama-quantize are at hand."""
    if not has_native() and shutil.which(PROGRAM) is None:
        raise MissingExtraError(
            f"gguf-q4_k_m needs llama.cpp's quantizer, and there is neither xllamacpp nor {PROGRAM} on PATH",
            fix=f"pip install 'tunewright[quantize]', put {PROGRAM} on PATH, or use gguf-q4_0",
        )


def quantized(weight: NDArray[np.float32], kind: GGMLQuantizationType) -> NDArray[Any]:
    """`weight` [..., width] in blocks of `kind`: bytes [..., width / block * size], or floats for F32."""
    if kind in _IN_PYTHON:
        found: NDArray[Any] = gguf.quants.quantize(weight, kind)
        return found
    call = _native()
    assert call is not None, kind
    source = np.ascontiguousarray(weight, dtype=np.float32)
    width = source.shape[-1]
    block, size = gguf.GGML_QUANT_SIZES[kind]
    assert width % block == 0, (width, block)
    target = np.empty((*source.shape[:-1], width // block * size), np.uint8)
    written = call(int(kind), source.ctypes.data, target.ctypes.data, 0, source.size // width, width, None)
    assert written == target.nbytes, (written, target.nbytes)
    return target


def by_program(source: Path, target: Path, kind: str) -> None:
    """llama-quantize from the 16- or 32-bit file `source` to `target`. kind: its name of a mixture ("Q4_K_M")."""
    program = shutil.which(PROGRAM)
    assert program is not None
    words = [program, str(source), str(target), kind]
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=LIMIT_S, check=False)
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise QuantizeError(
            f"{PROGRAM} failed: {lines[-1] if lines else f'exit code {done.returncode}'}",
            where=str(source),
            fix="leave gguf-q4_k_m out of quantize.variants, or use a newer llama.cpp",
        )
