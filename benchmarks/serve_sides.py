"""The servers and loops that benchmarks/serve.py compares, each in a process of its own.

    python benchmarks/serve_sides.py ours|generate|generate_batch FOLDER [SETTINGS as JSON]

`ours` serves FOLDER over HTTP (its address is the first line on stdout); `generate` and `generate_batch` read lists of
token ids from stdin, a JSON line a job, and answer with seconds and new tokens: transformers' own ways to generate,
without HTTP. All run in bfloat16.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

DTYPE = torch.bfloat16
START_S = 300.0


class Worker:
    """A `generate` or `generate_batch` in a process of its own."""

    def __init__(self, kind: str, folder: Path) -> None:
        words = [sys.executable, __file__, kind, str(folder)]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._line()

    def run(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> float:
        """New tokens a second."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"prompts": prompts, "new_tokens": new_tokens}) + "\n")
        self._process.stdin.flush()
        found = json.loads(self._line())
        return float(found["tokens"] / found["seconds"])

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args!r} ended")
        return line

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def server(folder: Path, **settings: Any) -> Iterator[tuple[str, int]]:
    """(address, process id) of our server; it ends with the context."""
    words = [sys.executable, __file__, "ours", str(folder), json.dumps(settings)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        wait_for(f"{url}/ready", process)
        yield url, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@contextlib.contextmanager
def program(words: Sequence[str], url: str, environment: dict[str, str]) -> Iterator[str]:
    """Another server: its command line, and the path that answers 200 once it is up."""
    process = subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ) | environment
    )
    try:
        wait_for(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def wait_for(url: str, process: subprocess.Popen[Any]) -> None:
    """Returns once `url` answers 200; raises RuntimeError when the process ends or takes too long."""
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as response:
            if response.status == 200:
                return
        time.sleep(0.2)
    raise RuntimeError(f"{process.args!r} did not get ready in {START_S:.0f} s")


def ours(folder: Path, settings: dict[str, Any]) -> None:
    """Our server with the transformers engine, without cache, until SIGTERM."""
    from tunewright.models.load import for_inference, load_model
    from tunewright.models.tokens import ChatTokenizer
    from tunewright.serve.app import Parts
    from tunewright.serve.config import ServeConfig
    from tunewright.serve.engine import TransformersEngine
    from tunewright.serve.prepared import Loaded
    from tunewright.serve.server import Server, in_thread
    from tunewright.serve.wire import Model

    dtype = getattr(torch, settings.pop("dtype", "bfloat16"))

    def load() -> Loaded:
        return Loaded(for_inference(load_model(folder, dtype=dtype)), ChatTokenizer.load(folder), 2048)

    config = ServeConfig(port=0, **settings)
    engine = TransformersEngine(load, batch_size=config.batch_size, queue=config.queue)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with in_thread(Server(engine, config, Parts(Model(id="bench", created=1)), log=lambda _: None)) as url:
        print(url, flush=True)
        stop.wait()


def loop(kind: str, folder: Path) -> None:
    """Answers jobs from stdin with transformers alone."""
    from transformers import AutoModelForCausalLM, GenerationConfig

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=DTYPE).eval()
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        count = job["new_tokens"]
        settings = GenerationConfig(max_new_tokens=count, do_sample=False, eos_token_id=-1, pad_token_id=0)
        start = time.perf_counter()
        if kind == "generate":
            tokens = sum(_generated(model, ids, settings) for ids in job["prompts"])
        else:
            found = model.generate_batch(job["prompts"], generation_config=settings, progress_bar=False)
            tokens = sum(len(one.generated_tokens) for one in found.values())
        print(json.dumps({"seconds": time.perf_counter() - start, "tokens": tokens}), flush=True)


def _generated(model: Any, ids: list[int], settings: Any) -> int:
    with torch.inference_mode():
        output = model.generate(torch.tensor([ids]), generation_config=settings)
    return int(output.shape[1]) - len(ids)


if __name__ == "__main__":
    if sys.argv[1] == "ours":
        ours(Path(sys.argv[2]), json.loads(sys.argv[3]))
    else:
        loop(sys.argv[1], Path(sys.argv[2]))
