"""ggml's own quantizers: the same bytes as the gguf package writes, and the formats only ggml has."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from quantize_kit import spread, written

from tunewright.models.load import load_model
from tunewright.quantize import ggml
from tunewright.quantize.gguf_reader import read_tensors
from tunewright.quantize.gguf_types import Layout, tensor_type
from tunewright.quantize.scheme import QuantizeError

WEIGHT = (np.random.default_rng(0).normal(size=(64, 512)) * 0.02).astype(np.float32)

needs_native = pytest.mark.skipif(not ggml.has_native(), reason="xllamacpp is not installed")


@needs_native
@pytest.mark.parametrize("kind", [Kind.Q8_0, Kind.Q4_0, Kind.Q5_0])
def test_blocks_are_ggmls_to_the_bit(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """llama-quantize calls the same function, so a file of ours has the bytes of one of its."""
    python = gguf.quants.quantize(WEIGHT, kind)
    monkeypatch.setattr(ggml, "_IN_PYTHON", frozenset())
    np.testing.assert_array_equal(ggml.quantized(WEIGHT, kind), python)


@needs_native
@pytest.mark.parametrize(("kind", "low", "high"), [(Kind.Q4_K, 0.05, 0.09), (Kind.Q6_K, 0.01, 0.025)])
def test_k_quants_come_back_as_close_as_their_bits_allow(kind: Kind, low: float, high: float) -> None:
    """Normal weights: 4 bits with a scale and an offset for 32 cost about 7 % of their size, 6 bits about 1.8 %."""
    blocks = ggml.quantized(WEIGHT, kind)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    assert blocks.shape == (64, 512 // block * size) and blocks.dtype == np.uint8
    back = gguf.quants.dequantize(blocks, kind)
    assert low < np.linalg.norm(back - WEIGHT) / np.linalg.norm(WEIGHT) < high


def test_the_mixture_of_a_model_whose_width_256_does_not_divide() -> None:
    """The built-in model: 576 wide, 30 layers, tied. Finer: 0-2 and 26-29 (an eighth is 3, 7*30//8 is 26) and every
    third from 5. llama.cpp falls back from Q4_K to Q5_0 and from Q6_K to Q8_0."""
    layout = Layout("Q4_K_M", layers=30, tied=True)
    assert tensor_type("token_embd.weight", (49152, 576), layout) == Kind.Q8_0
    assert tensor_type("blk.7.attn_q.weight", (576, 576), layout) == Kind.Q5_0
    finer = [i for i in range(30) if tensor_type(f"blk.{i}.ffn_down.weight", (576, 1536), layout) == Kind.Q6_K]
    assert finer == [0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 26, 27, 28, 29]
    assert tensor_type("blk.5.attn_v.weight", (192, 576), layout) == Kind.Q8_0
    assert tensor_type("blk.6.ffn_down.weight", (576, 1536), layout) == Kind.Q4_K
    assert tensor_type("blk.6.attn_norm.weight", (576,), layout) == Kind.F32


PROGRAM = """#!/bin/sh
[ "$3" = Q4_K_M ] || { echo "no such type $3" >&2; exit 1; }
case "$1" in *model.gguf.f32) ;; *) exit 3;; esac
[ -e "$(dirname "$1")/fail" ] && { echo "main: failed to quantize" >&2; exit 1; }
cp "$1" "$2"
"""


def test_without_the_wheel_llama_quantize_makes_the_file(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in program that copies: what it was given must be the unrounded model, and nothing of it may stay."""
    monkeypatch.setattr(ggml, "_native", lambda: None)
    program = tmp_path / "bin" / "llama-quantize"
    program.parent.mkdir()
    program.write_text(PROGRAM)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    model = spread(load_model(tiny, dtype=torch.float32))
    written("gguf-q4_k_m", model, tiny, tmp_path / "one")
    stored = {tensor.name: tensor for tensor in read_tensors(tmp_path / "one" / "model.gguf")}
    assert {tensor.kind for tensor in stored.values()} == {Kind.F32}
    assert not list((tmp_path / "one").glob("*.f32")) and not list((tmp_path / "one").glob(".*"))
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "fail").touch()
    with pytest.raises(QuantizeError, match="llama-quantize failed: main: failed to quantize"):
        _write_into(model, tiny, tmp_path / "two")
    assert [path.name for path in (tmp_path / "two").iterdir()] == ["fail"]


def _write_into(model: Any, folder: Path, target: Path) -> None:
    from tunewright.quantize.config import GgufQ4KMOptions
    from tunewright.quantize.schemes.gguf import Gguf

    Gguf(GgufQ4KMOptions()).write(model, folder, target, calibration=[])


@needs_native
@pytest.mark.skipif(shutil.which("llama-quantize") is None, reason="llama-quantize is not on PATH")
@pytest.mark.parametrize("name", ["gguf-q8_0", "gguf-q4_0", "gguf-q4_k_m"])
def test_our_file_holds_what_llama_quantize_writes(
    name: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every tensor of the same type with the same bytes, so it is as fast in the same llama.cpp."""
    from tunewright.quantize import gguf_file
    from tunewright.quantize.schemes.gguf import NAMES

    model = spread(load_model(tiny, dtype=torch.float32))
    written(name, model, tiny, tmp_path / "ours")
    monkeypatch.setattr(gguf_file, "tensor_type", lambda *_: Kind.F32)
    written("gguf-q8_0", model, tiny, tmp_path / "whole")
    theirs = tmp_path / "theirs.gguf"
    words = ["llama-quantize", str(tmp_path / "whole" / "model.gguf"), str(theirs), NAMES[name]]
    subprocess.run(words, check=True, capture_output=True)
    found = {tensor.name: tensor for tensor in read_tensors(theirs)}
    for tensor in read_tensors(tmp_path / "ours" / "model.gguf"):
        other = found.pop(tensor.name)
        assert (tensor.kind, tensor.data.tobytes()) == (other.kind, other.data.tobytes()), tensor.name
    assert not found
