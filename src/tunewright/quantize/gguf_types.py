"""Which block format each tensor of a GGUF file has: the mixtures of llama.cpp's `llama_tensor_get_type` for Llama.

Read from llama.cpp b11434, src/llama-quant.cpp (MIT). The files are therefore as large and as fast as llama-quantize's;
a test compares the types where that program is at hand.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import gguf
from gguf import GGMLQuantizationType as Kind

from tunewright.quantize.ggml import has_native

EMBEDDING, HEAD = "token_embd.weight", "output.weight"
Q4_K_M = "Q4_K_M"
MIXTURES = {"F32": Kind.F32, "BF16": Kind.BF16, "Q8_0": Kind.Q8_0, "Q4_0": Kind.Q4_0, Q4_K_M: Kind.Q4_K}
"""Name of a mixture -> the format of most of its matrices. The first two are what others are made of or measured
against; no scheme writes them."""
FALLBACK = {Kind.Q4_K: Kind.Q5_0, Kind.Q6_K: Kind.Q8_0}
"""For widths that blocks of 256 do not divide."""
_FINER = ("attn_v.weight", "ffn_down.weight")


@dataclass(frozen=True)
class Layout:
    """What the choice depends on besides the tensor. layers: of the model; tied: the head is the embedding."""

    mixture: str
    layers: int
    tied: bool


def tensor_type(name: str, shape: tuple[int, ...], layout: Layout) -> Kind:
    """The format of the tensor `name` [rows, width]; F32 for norms and biases."""
    if len(shape) == 1:
        return Kind.F32
    wanted = _wanted(name, layout)
    return FALLBACK[wanted] if shape[-1] % gguf.GGML_QUANT_SIZES[wanted][0] else wanted


def _wanted(name: str, layout: Layout) -> Kind:
    most = MIXTURES[layout.mixture]
    is_head = name == HEAD or (layout.tied and name == EMBEDDING)
    if is_head and layout.mixture in ("Q4_0", Q4_K_M):
        return Kind.Q6_K if has_native() or layout.mixture == Q4_K_M else Kind.Q8_0
    if layout.mixture == Q4_K_M and name.endswith(_FINER) and _is_finer(_layer(name), layout.layers):
        return Kind.Q6_K
    return most


def _layer(name: str) -> int:
    found = re.match(r"blk\.(\d+)\.", name)
    assert found, name
    return int(found[1])


def _is_finer(layer: int, layers: int) -> bool:
    """The first and last eighth of the layers, and every third between them."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2
