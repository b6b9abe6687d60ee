"""The tensors of a GGUF file, without its metadata.

`gguf.GGUFReader` builds a Python object for every token and merge, four seconds for a vocabulary of 49,152; the
weights need none of them. Format: ggml's docs/gguf.md, version 3, little-endian. Equal to GGUFReader in the tests.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType
from numpy.typing import NDArray

from tunewright.quantize.scheme import QuantizeError

MAGIC = b"GGUF"
VERSION = 3
ALIGNMENT = 32
_FORMATS = {
    GGUFValueType.UINT8: "B",
    GGUFValueType.INT8: "b",
    GGUFValueType.UINT16: "H",
    GGUFValueType.INT16: "h",
    GGUFValueType.UINT32: "I",
    GGUFValueType.INT32: "i",
    GGUFValueType.FLOAT32: "f",
    GGUFValueType.BOOL: "?",
    GGUFValueType.UINT64: "Q",
    GGUFValueType.INT64: "q",
    GGUFValueType.FLOAT64: "d",
}


@dataclass(frozen=True)
class StoredTensor:
    """shape: rows first, as numpy and torch have it. data: the raw bytes, mapped from the file."""

    name: str
    kind: GGMLQuantizationType
    shape: tuple[int, ...]
    data: NDArray[np.uint8]


class _Cursor:
    """Reads little-endian values one after the other."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.place = data, 0

    def take(self, form: str) -> Any:
        value = struct.unpack_from(f"<{form}", self.data, self.place)[0]
        self.place += struct.calcsize(f"<{form}")
        return value

    def text(self) -> bytes:
        length = self.take("Q")
        self.place += length
        return bytes(self.data[self.place - length : self.place])

    def skip(self, kind: int) -> None:
        """Steps over one metadata value."""
        if kind == GGUFValueType.STRING:
            length = self.take("Q")
            self.place += length
        elif kind == GGUFValueType.ARRAY:
            inner, count = self.take("I"), self.take("Q")
            if inner in (GGUFValueType.STRING, GGUFValueType.ARRAY):
                for _ in range(count):
                    self.skip(inner)
            else:
                self.place += count * struct.calcsize(_FORMATS[GGUFValueType(inner)])
        else:
            self.place += struct.calcsize(_FORMATS[GGUFValueType(kind)])


def read_tensors(path: Path) -> Iterator[StoredTensor]:
    """Every tensor of the file `path`. Raises QuantizeError when it is no GGUF file of version 3."""
    with path.open("rb") as handle:
        mapped = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    cursor = _Cursor(mapped)
    if mapped[:4] != MAGIC or struct.unpack_from("<I", mapped, 4)[0] != VERSION:
        raise QuantizeError("this is no GGUF file of version 3", where=str(path), fix="delete it and run again")
    cursor.place = 8
    tensors, values = cursor.take("Q"), cursor.take("Q")
    for _ in range(values):
        cursor.text()
        cursor.skip(cursor.take("I"))
    infos = [_info(cursor) for _ in range(tensors)]
    start = math.ceil(cursor.place / ALIGNMENT) * ALIGNMENT
    for name, kind, shape, offset in infos:
        block, size = GGML_QUANT_SIZES[kind]
        length = math.prod(shape) // block * size
        yield StoredTensor(name, kind, shape, np.frombuffer(mapped, np.uint8, length, start + offset))


def _info(cursor: _Cursor) -> tuple[str, GGMLQuantizationType, tuple[int, ...], int]:
    name = cursor.text().decode()
    shape = tuple(int(cursor.take("Q")) for _ in range(cursor.take("I")))[::-1]
    return name, GGMLQuantizationType(cursor.take("I")), shape, int(cursor.take("Q"))
