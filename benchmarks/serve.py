"""Our server over HTTP beside transformers' own ways and llama-server: throughput, latency, a soak.

    python benchmarks/serve.py [--rounds 5] [--llama-server PROGRAM] [--transformers-serve] [--soak SECONDS]

Work: prompts of 64 tokens, 64 new tokens, greedy, bfloat16, 8 at the same time; every question is new, so that only the
system text is reused. Every side is a process of its own and answers in turn, in alternating order; the
ratios are of one round, then median and range over rounds.
- ours: the HTTP server with the transformers engine, answer cache off, at 8 and at 1 concurrent request.
- generate: `model.generate`, one prompt after the other; generate_batch: transformers' continuous batching. No HTTP.
- llama-server: the program given (else the one on PATH, else the xllamacpp wheel) on a bf16 GGUF file of ours.
- transformers serve --continuous-batching, over HTTP.
After the rounds an open loop sends requests at random moments at 80 % of the measured throughput;
`first_token_p95_s` is of that loop. Prints the table; the last line is JSON. Asserts nothing. What --soak looks at:
serve_soak.py.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

import serve_load as load
import serve_sides as sides
import serve_soak
from tunewright.core.chat import Message
from tunewright.core.listen import free_port
from tunewright.core.machine import describe
from tunewright.models import llama_program, source
from tunewright.models.config import ModelConfig
from tunewright.models.load import load_model
from tunewright.models.save import save_model
from tunewright.models.tokens import ChatTokenizer
from tunewright.quantize import gguf_file
from tunewright.quantize.gguf_tokenizer import read_tokenizer
from tunewright.quantize.gguf_types import Layout

PROMPT_TOKENS, NEW_TOKENS, BATCH = 64, 64, 8
OPEN_SHARE, OPEN_REQUESTS = 0.8, 48
Side = Callable[[Sequence[str]], float]
"""Answers all questions, says new tokens a second."""


def main() -> None:
    """Every round asks every side, in alternating order."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="builtin:smollm2-135m")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--llama-server", help="a program to compare with; by itself the one on PATH, else the wheel")
    parser.add_argument("--transformers-serve", action="store_true", help="also `transformers serve`")
    parser.add_argument("--soak", type=float, default=0, help="seconds at twice the capacity, instead of the rounds")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        folder = written(given.model, Path(scratch))
        if given.soak:
            print(json.dumps(serve_soak.soak(folder, given.soak) | {"machine": describe().model_dump()}))
            return
        tokenizer = ChatTokenizer.load(folder)
        compared = opened(stack, folder, tokenizer, given)
        rounds = measured(compared, tokenizer, given.rounds)
        ours = next(side for name, side in compared.items() if name == "ours b8")
        print(json.dumps(summary(rounds) | arriving(ours, rounds, tokenizer) | {"machine": describe().model_dump()}))


def written(path: str, scratch: Path) -> Path:
    """The model as a folder of safetensors in bfloat16 and as `model.gguf` in the folder above it."""
    base = source.resolve(ModelConfig(path=path), Path())
    model = load_model(base, dtype=torch.bfloat16)
    save_model(model, scratch / "model", tokenizer_from=base)
    layout = Layout("BF16", int(model.config.num_hidden_layers), bool(model.config.tie_word_embeddings))
    tokens = read_tokenizer(base, vocabulary=model.config.vocab_size)
    gguf_file.write_gguf(model, tokens, base, scratch / "model.gguf", layout=layout, name=base.name)
    return scratch / "model"


class Http:
    """A server at a concurrency."""

    def __init__(self, place: load.Place, concurrency: int) -> None:
        self.place, self.concurrency = place, concurrency
        self.loops: list[load.Loop] = []

    def __call__(self, questions: Sequence[str]) -> float:
        loop = load.closed(self.place, questions, NEW_TOKENS, self.concurrency)
        if set(loop.statuses()) != {200}:
            raise RuntimeError(f"{self.place.url}: {loop.statuses()} {loop.answers[0].text[:300]}")
        self.loops.append(loop)
        return loop.tokens_per_second


def opened(
    stack: contextlib.ExitStack, folder: Path, tokenizer: ChatTokenizer, given: argparse.Namespace
) -> dict[str, Side]:
    """All sides, started."""
    url, _ = stack.enter_context(sides.server(folder, batch_size=BATCH, cache={"store": "off"}))
    ours = load.Place(url, "bench")
    found: dict[str, Side] = {"ours b8": Http(ours, BATCH), "ours b1": Http(ours, 1)}
    for kind in ("generate", "generate_batch"):
        worker = sides.Worker(kind, folder)
        stack.callback(worker.close)
        found[kind] = _looped(worker, tokenizer)
    if given.llama_server or llama_program.is_present():
        llama = stack.enter_context(llama_server(folder.parent / "model.gguf", given.llama_server))
        found |= {"llama-server b8": Http(llama, BATCH), "llama-server b1": Http(llama, 1)}
    if given.transformers_serve:
        found["transformers serve b8"] = Http(stack.enter_context(transformers_serve(folder)), BATCH)
    return found


def _looped(worker: sides.Worker, tokenizer: ChatTokenizer) -> Side:
    """The same questions as token ids, rendered as our server renders them."""

    def run(questions: Sequence[str]) -> float:
        return worker.run(
            [tokenizer.prompt_ids([Message(role="user", content=text)]) for text in questions], NEW_TOKENS
        )

    return run


@contextlib.contextmanager
def llama_server(gguf: Path, named: str | None) -> Iterator[load.Place]:
    """llama.cpp with as many slots and threads as ours."""
    port, key = free_port(), secrets.token_hex(16)
    settings = llama_program.LlamaSettings(str(gguf), 1024, BATCH, port)
    words = llama_program.words_for(settings)
    if named:
        threads = str(torch.get_num_threads())
        words = [named, "--model", str(gguf), "--ctx-size", str(1024 * BATCH), "--parallel", str(BATCH)]
        words += ["--host", "127.0.0.1", "--port", str(port), "--threads", threads]
    with sides.program(words, f"http://127.0.0.1:{port}/health", {llama_program.KEY: key}):
        print(f"llama.cpp: {words[0]}", flush=True)
        yield load.Place(f"http://127.0.0.1:{port}", "bench", key, {"ignore_eos": True})


@contextlib.contextmanager
def transformers_serve(folder: Path) -> Iterator[load.Place]:
    """`transformers serve` with continuous batching in bfloat16."""
    port = free_port()
    program = shutil.which("transformers") or str(Path(sys.executable).with_name("transformers"))
    words = [program, "serve", str(folder), "--continuous-batching", "--dtype", "bfloat16", "--port", str(port)]
    words += ["--host", "127.0.0.1"]
    with sides.program(words, f"http://127.0.0.1:{port}/health", {"HF_HUB_OFFLINE": "1"}):
        yield load.Place(f"http://127.0.0.1:{port}", str(folder))


def measured(compared: dict[str, Side], tokenizer: ChatTokenizer, rounds: int) -> list[dict[str, float]]:
    """Tokens a second of each side in each round, after one round that is not counted."""
    found: list[dict[str, float]] = []
    number = 0
    for turn in range(rounds + 1):
        order = list(compared.items()) if turn % 2 else list(compared.items())[::-1]
        speeds: dict[str, float] = {}
        for name, side in order:
            questions = [load.question(tokenizer, number + index, PROMPT_TOKENS) for index in range(BATCH)]
            number += BATCH
            speeds[name] = side(questions)
        if turn:
            found.append(speeds)
            told = ", ".join(f"{name} {speeds[name]:.1f}" for name in compared)
            print(f"round {turn} (tokens/s): {told}", flush=True)
    return found


RATIOS = {
    "b8_vs_generate_loop": ("ours b8", "generate"),
    "b8_vs_b1": ("ours b8", "ours b1"),
    "b1_vs_generate": ("ours b1", "generate"),
    "vs_generate_batch": ("ours b8", "generate_batch"),
    "vs_llama_server": ("ours b8", "llama-server b8"),
    "b1_vs_llama_server": ("ours b1", "llama-server b1"),
    "vs_transformers_serve": ("ours b8", "transformers serve b8"),
}
"""What is divided by what."""


def summary(rounds: list[dict[str, float]]) -> dict[str, Any]:
    """Median ratios, their ranges, median tokens a second of each side; a side that was not there is null."""
    ratios = {
        name: [one[over] / one[under] for one in rounds] if under in rounds[0] else []
        for name, (over, under) in RATIOS.items()
    }
    return {
        **{name: round(statistics.median(found), 2) if found else None for name, found in ratios.items()},
        "ranges": {name: [round(min(found), 2), round(max(found), 2)] for name, found in ratios.items() if found},
        "tokens_per_second": {name: round(statistics.median(one[name] for one in rounds), 1) for name in rounds[0]},
        "rounds": len(rounds),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }


def arriving(side: Side, rounds: list[dict[str, float]], tokenizer: ChatTokenizer) -> dict[str, Any]:
    """Percentiles of the closed loop and of an open one at 80 % of its throughput."""
    assert isinstance(side, Http)
    together = load.Loop([answer for loop in side.loops[1:] for answer in loop.answers], 1.0)
    rate = OPEN_SHARE * statistics.median(one["ours b8"] for one in rounds) / NEW_TOKENS
    questions = [load.question(tokenizer, 100_000 + index, PROMPT_TOKENS) for index in range(OPEN_REQUESTS)]
    random = load.open_loop(side.place, questions, NEW_TOKENS, rate)
    told = {name: spread(loop) for name, loop in (("closed b8", together), ("open 80 %", random))}
    for name, times in told.items():
        print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in times.items()), flush=True)
    return {"first_token_p95_s": told["open 80 %"]["first_token_p95_s"], "requests_per_second": round(rate, 2), **told}


def spread(loop: load.Loop) -> dict[str, float]:
    """Median and 95th percentile of the first token, of a further token, and of the whole answer, in seconds."""
    return {
        f"{name.removesuffix('_s')}_p{int(100 * share)}_s": round(loop.percentile(name, share), 4)
        for name in ("first_token_s", "step_s", "seconds")
        for share in (0.5, 0.95)
    }


if __name__ == "__main__":
    main()
