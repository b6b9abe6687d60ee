"""What our HTTP layer costs: the same llama.cpp asked directly and through our server, alternating, median.

    python benchmarks/serve_layer.py [--model builtin:smollm2-135m] [--mixture Q4_0] [--rounds 9] [--threads 0]

Both sides get the same chat requests (8 at the same time, streamed, greedy, each question new, so that no prompt is
cached) from the same client, at the same process: directly at llama.cpp's own /v1/chat/completions, and at ours, which
renders the prompt, checks it, and asks llama.cpp's /completion. Q4_0 is the fastest format, so the layer's share is
largest there. Our server runs in a process of its own, whose processor time is told too, also as a share of what all
cores could give meanwhile: what it costs where llama.cpp keeps them busy. Prints a line a round; the last line is JSON.
Asserts nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from tunewright.core.chat import Message
from tunewright.core.machine import describe
from tunewright.models import source
from tunewright.models.config import ModelConfig
from tunewright.models.load import load_model
from tunewright.models.tokens import ChatTokenizer
from tunewright.quantize import gguf_file
from tunewright.quantize.gguf_tokenizer import read_tokenizer
from tunewright.quantize.gguf_types import Layout
from tunewright.quantize.llama_server import build_name
from tunewright.serve import probe
from tunewright.serve.app import Parts
from tunewright.serve.choose import Files
from tunewright.serve.config import ServeConfig
from tunewright.serve.engines.config import LlamaCppOptions
from tunewright.serve.engines.http_engine import Place, UpstreamEngine
from tunewright.serve.engines.llama_cpp import LlamaUpstream
from tunewright.serve.server import Server, in_thread
from tunewright.serve.wire import Model

TOPICS = ("the sea", "a long road", "winter", "old trees", "a small town", "the moon", "bread", "a quiet river")
CONTEXT = 1024


def written(path: str, mixture: str, folder: Path) -> Files:
    """The model as a GGUF file, with its tokenizer."""
    base = source.resolve(ModelConfig(path=path), Path())
    model = load_model(base, dtype=torch.float32)
    layout = Layout(mixture, int(model.config.num_hidden_layers), bool(model.config.tie_word_embeddings))
    target = folder / "model.gguf"
    tokenizer = read_tokenizer(base, vocabulary=model.config.vocab_size)
    gguf_file.write_gguf(model, tokenizer, base, target, layout=layout, name=base.name)
    return Files(base, ChatTokenizer.load(base), target)


@dataclass(frozen=True)
class Took:
    """New tokens of eight answers at the same time, and the seconds until the last one ended."""

    tokens: int
    seconds: float

    @property
    def speed(self) -> float:
        return self.tokens / self.seconds


def asked(target: probe.Target, number: int) -> Took:
    """Asks eight questions; `number` makes them new."""
    questions = [[Message(role="user", content=f"({number}) Tell me a long story about {topic}.")] for topic in TOPICS]
    started = time.perf_counter()
    with ThreadPoolExecutor(len(questions)) as pool:
        answers = list(pool.map(lambda messages: probe.ask(target, messages), questions))
    return Took(sum(answer.completion_tokens for answer in answers), time.perf_counter() - started)


def serve(model: str, mixture: str, threads: int, line: Connection) -> None:
    """Our server and the llama.cpp behind it, until `line` is closed at its other end. Sends the addresses of both,
    then for everything that comes the processor seconds of this process so far."""
    with tempfile.TemporaryDirectory() as place:
        files = written(model, mixture, Path(place))
        upstream = LlamaUpstream(lambda: files, LlamaCppOptions(context=CONTEXT, threads=threads), slots=len(TOPICS))
        engine = UpstreamEngine(upstream, Place(len(TOPICS), len(TOPICS)))
        server = Server(engine, ServeConfig(port=0), Parts(Model(id="bench", created=1)), log=lambda _: None)
        with in_thread(server) as url, contextlib.suppress(EOFError):
            address = upstream.child.address
            line.send((address.url, address.key, url))
            while line.recv():
                line.send(time.process_time())


def main() -> None:
    """Every round asks both ways, in alternating order."""
    given = arguments()
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=serve, args=(given.model, given.mixture, given.threads, theirs))
    process.start()
    theirs.close()
    direct, key, url = ours.recv()
    sides = {
        "direct": probe.Target(direct, "bench", key, given.new_tokens),
        "ours": probe.Target(url, "bench", None, given.new_tokens),
    }
    for target in sides.values():
        asked(target, 0)  # not counted
    before = spent(ours)
    rounds = measured(sides, given.rounds)
    cost = spent(ours) - before
    ours.close()
    process.join()
    ratios = [found["ours"].speed / found["direct"].speed for found in rounds]
    summary = {
        "layer_vs_llama_server": round(statistics.median(ratios), 3),
        "range": [round(min(ratios), 3), round(max(ratios), 3)],
        "direct_tokens_per_second": round(statistics.median(found["direct"].speed for found in rounds), 1),
        "ours_tokens_per_second": round(statistics.median(found["ours"].speed for found in rounds), 1),
        "layer_cpu_ms_per_token": round(1000 * cost / sum(found["ours"].tokens for found in rounds), 3),
        "layer_share_of_cpu": round(cost / sum(found["ours"].seconds for found in rounds) / (os.cpu_count() or 1), 4),
        "rounds": len(rounds),
        "new_tokens": given.new_tokens,
        "concurrency": len(TOPICS),
        "threads": given.threads,
        "model": given.model,
        "mixture": given.mixture,
        "build": build_name(),
        "machine": describe().model_dump(),
    }
    print(json.dumps(summary))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="builtin:smollm2-135m")
    parser.add_argument("--mixture", default="Q4_0", choices=["Q4_0", "Q8_0", "BF16"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--new-tokens", type=int, default=192)
    parser.add_argument("--threads", type=int, default=0, help="of llama.cpp; fewer than cores on a busy machine")
    return parser.parse_args()


def spent(line: Connection) -> float:
    """Processor seconds of the server's process so far."""
    line.send(True)
    return float(line.recv())


def measured(sides: dict[str, probe.Target], rounds: int) -> list[dict[str, Took]]:
    """What each side took in each round."""
    found: list[dict[str, Took]] = []
    for number in range(1, rounds + 1):
        order = list(sides.items()) if number % 2 else list(sides.items())[::-1]
        found.append({name: asked(target, 2 * number + place) for place, (name, target) in enumerate(order)})
        speeds = ", ".join(f"{name} {took.speed:.1f} tokens/s" for name, took in found[-1].items())
        print(f"round {number}: {speeds}", flush=True)
    return found


if __name__ == "__main__":
    main()
