"""Our GGUF files against llama-quantize's of the same weights, and both against bf16, in the same llama.cpp.

    python benchmarks/quantize.py [--model builtin:smollm2-135m] [--rounds 3] [--tokens 128]

Writes the files to a temporary folder, compares every tensor with llama-quantize's where that program is on PATH (its
types and bytes), then measures them in turn: tokens/s of decoding alone at batch 1 and 8, and of whole requests over
HTTP at batch 1. Prints a table with medians and ranges and ends with one JSON line. Asserts nothing about time.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tunewright.core.machine import describe
from tunewright.models import source
from tunewright.models.config import ModelConfig
from tunewright.models.load import load_model
from tunewright.models.tokens import ChatTokenizer
from tunewright.quantize.engines import BATCH, LlamaCppEngine
from tunewright.quantize.gguf_file import write_gguf
from tunewright.quantize.gguf_reader import read_tensors
from tunewright.quantize.gguf_tokenizer import read_tokenizer
from tunewright.quantize.gguf_types import Layout

MIXTURES = ("Q8_0", "Q4_0", "Q4_K_M")
REFERENCE = "BF16"
QUESTION = "Explain in a few sentences what a savings account is and when its interest is paid. " * 3


@dataclass(frozen=True)
class Speed:
    """Tokens a second: decoding alone at batch 1 and 8, and a whole request over HTTP (prompt included)."""

    decode: float
    decode_b8: float
    http: float


def write_files(folder: Path, target: Path) -> dict[str, Path]:
    """{name: file}: ours, and llama-quantize's (from the same weights) where it is found."""
    model = load_model(folder, dtype=torch.bfloat16)
    layers, tied = int(model.config.num_hidden_layers), bool(model.config.tie_word_embeddings)
    tokenizer = read_tokenizer(folder, vocabulary=model.config.vocab_size)
    files: dict[str, Path] = {}
    for mixture in (REFERENCE, *MIXTURES):
        files[mixture] = target / f"{mixture}.gguf"
        layout = Layout(mixture, layers, tied)
        write_gguf(model, tokenizer, folder, files[mixture], layout=layout, name=folder.name)
    program = shutil.which("llama-quantize")
    for mixture in MIXTURES if program else ():
        files[f"{mixture} (llama-quantize)"] = target / f"{mixture}.theirs.gguf"
        words = [str(program), str(files[REFERENCE]), str(files[f"{mixture} (llama-quantize)"]), mixture]
        subprocess.run(words, check=True, capture_output=True)
    return files


def same_tensors(ours: Path, theirs: Path) -> tuple[int, int]:
    """(tensors with the same type and bytes, all tensors)."""
    other = {tensor.name: tensor for tensor in read_tensors(theirs)}
    pairs = [(tensor, other[tensor.name]) for tensor in read_tensors(ours)]
    return sum(a.kind == b.kind and a.data.tobytes() == b.data.tobytes() for a, b in pairs), len(pairs)


def measured(path: Path, tokenizer: ChatTokenizer, *, tokens: int) -> Speed:
    """One round of one file."""
    prompt = tokenizer.encode(QUESTION)
    engine = LlamaCppEngine(path, tokenizer, context=len(prompt) + tokens + 8)
    try:
        latency = engine.latency(prompt, new_tokens=tokens, repeats=1)
        batch = engine.throughput([prompt] * BATCH, new_tokens=max(2, tokens // 4))
    finally:
        engine.close()
    return Speed(latency.tokens_per_second, batch, tokens / latency.p50_s)


def report(found: Mapping[str, list[Speed]], files: Mapping[str, Path]) -> dict[str, Any]:
    """Prints the table; returns {file: ratios to bf16}."""
    ratios: dict[str, Any] = {}
    print(f"{'file':26} {'MB':>7}  {'decode tok/s (range)':24} {'batch 8':>8} {'HTTP':>7}   x bf16: decode, b8, HTTP")
    for name, runs in found.items():
        middle, base = _median(runs), _median(found[REFERENCE])
        low, high = min(run.decode for run in runs), max(run.decode for run in runs)
        times = [middle.decode / base.decode, middle.decode_b8 / base.decode_b8, middle.http / base.http]
        ratios[name] = dict(zip(("decode", "decode_b8", "http"), (round(value, 3) for value in times), strict=True))
        print(
            f"{name:26} {files[name].stat().st_size / 1e6:7.1f}  {middle.decode:7.1f} ({low:.1f}-{high:.1f})".ljust(62)
            + f"{middle.decode_b8:8.1f} {middle.http:7.1f}   {times[0]:.2f}, {times[1]:.2f}, {times[2]:.2f}"
        )
    return ratios


def _median(runs: list[Speed]) -> Speed:
    return Speed(*(statistics.median(getattr(run, name) for run in runs) for name in ("decode", "decode_b8", "http")))


def main() -> None:
    """Files once, then rounds in which every file is measured once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", default="builtin:smollm2-135m")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=128)
    options = parser.parse_args()
    folder = source.resolve(ModelConfig(path=options.model), Path.cwd())
    tokenizer = ChatTokenizer.load(folder)
    print(describe().model_dump_json())
    with tempfile.TemporaryDirectory() as root:
        start = time.monotonic()
        files = write_files(folder, Path(root))
        print(f"{len(files)} files written in {time.monotonic() - start:.0f} s")
        same = {}
        for mixture in MIXTURES:
            if f"{mixture} (llama-quantize)" in files:
                same[mixture] = same_tensors(files[mixture], files[f"{mixture} (llama-quantize)"])
                print(f"{mixture}: {same[mixture][0]} of {same[mixture][1]} tensors have llama-quantize's bytes")
        if not same:
            print("llama-quantize is not on PATH: its files are not compared")
        found: dict[str, list[Speed]] = {name: [] for name in files}
        for _ in range(options.rounds):
            for name, path in files.items():
                found[name].append(measured(path, tokenizer, tokens=options.tokens))
        ratios = report(found, files)
    from tunewright.quantize.llama_server import build_name

    print(json.dumps({"build": build_name(), "ratios_to_bf16": ratios, "same_tensors": same}))


if __name__ == "__main__":
    main()
