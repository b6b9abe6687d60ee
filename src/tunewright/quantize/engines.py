"""Where a variant is measured: transformers, or llama.cpp in this process (xllamacpp) or as `llama-server`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import transformers

from tunewright.core.events import track
from tunewright.models.generate import Sampling, generate
from tunewright.models.speed import WARM_UP_TOKENS, Latency, measure_latency, summarize
from tunewright.models.tokens import ChatTokenizer
from tunewright.quantize.llama_server import LlamaServer, build_name, open_server
from tunewright.quantize.scheme import QuantizeError

BATCH = 8
"""Answers at the same time in the batch run (the article and the goals speak of 8)."""
BATCH_WARM_UP = 2


@dataclass(frozen=True)
class Answer:
    """A greedy answer without its end token. finish: "stop" or "length"."""

    text: str
    new_tokens: int
    seconds: float
    finish: str


class Engine(Protocol):
    """Runs one variant. Prompts are token ids, so template and BOS are the same in every engine."""

    name: str
    build: str
    """Program and version, so that speeds can be compared."""
    process_id: int | None
    """Of the engine's own process, where it has one."""

    def answers(self, prompts: Sequence[list[int]], *, max_new_tokens: int) -> list[Answer]:
        """Greedy answers in the order of `prompts`."""
        ...

    def latency(self, prompt: list[int], *, new_tokens: int, repeats: int) -> Latency:
        """Batch 1, warm, exactly `new_tokens` tokens."""
        ...

    def throughput(self, prompts: Sequence[list[int]], *, new_tokens: int) -> float:
        """Tokens a second of all `prompts` together (`BATCH` at most), each exactly `new_tokens`, decoding alone."""
        ...

    def close(self) -> None:
        """Frees the memory."""
        ...


class TransformersEngine:
    """Our own generation engine over a model in memory."""

    name = "transformers"
    build = f"transformers {transformers.__version__}, torch {torch.__version__}"
    process_id: int | None = None

    def __init__(self, model: Any, tokenizer: ChatTokenizer, *, batch_size: int) -> None:
        self.model, self.tokenizer, self.batch_size = model, tokenizer, batch_size

    def answers(self, prompts: Sequence[list[int]], *, max_new_tokens: int) -> list[Answer]:
        """Greedy answers, batched."""
        sampling = Sampling(max_new_tokens=max_new_tokens)
        requests = generate(
            self.model, self.tokenizer, prompts, sampling, batch_size=self.batch_size, label="task rows"
        )
        return [
            Answer(request.text, len(request.output_ids), request.seconds, request.finish or "length")
            for request in requests
        ]

    def latency(self, prompt: list[int], *, new_tokens: int, repeats: int) -> Latency:
        """As every latency of this program."""
        return measure_latency(self.model, self.tokenizer, prompt, new_tokens=new_tokens, repeats=repeats)

    def throughput(self, prompts: Sequence[list[int]], *, new_tokens: int) -> float:
        """All prompts join before the first step, so the time to the slowest first token is what decoding is not."""
        for count in (BATCH_WARM_UP, new_tokens):
            sampling = Sampling(max_new_tokens=count, ignore_end=True)
            requests = generate(
                self.model, self.tokenizer, prompts, sampling, batch_size=BATCH, label=f"batch {len(prompts)}"
            )
        whole = max(request.seconds for request in requests)
        first = max(request.first_token_s for request in requests)
        return len(requests) * (new_tokens - 1) / max(whole - first, 1e-9)

    def close(self) -> None:
        """Forgets the model."""
        self.model = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class LlamaCppEngine:
    """llama.cpp: task rows one after the other, the prompts' common start computed once; eight slots for the batch."""

    name = "llama.cpp"

    def __init__(self, path: Path, tokenizer: ChatTokenizer, *, context: int) -> None:
        """context: tokens of the longest prompt and its answer."""
        self.tokenizer = tokenizer
        self.build = build_name()
        self._server: LlamaServer = open_server(path, context=context, slots=BATCH)
        self.process_id = self._server.process_id

    def answers(self, prompts: Sequence[list[int]], *, max_new_tokens: int) -> list[Answer]:
        """Greedy answers; text is decoded by our tokenizer from llama.cpp's token ids."""
        return [
            self._answer(prompt, max_new_tokens) for prompt in track(prompts, "task rows in llama.cpp", len(prompts))
        ]

    def _answer(self, prompt: list[int], max_new_tokens: int) -> Answer:
        start = time.monotonic()
        answer = self._complete(prompt, max_new_tokens, {"cache_prompt": True})
        ids = [int(token) for token in answer["tokens"]]
        end = next((index for index, token in enumerate(ids) if token in self.tokenizer.end_ids), None)
        finish = "stop" if end is not None or answer["stop_type"] == "eos" else "length"
        return Answer(self.tokenizer.decode(ids[:end]), len(ids[:end]), time.monotonic() - start, finish)

    def top_logprobs(self, prompt: list[int], *, count: int) -> list[tuple[int, float]]:
        """The `count` most probable next tokens with their log-probabilities in nats.

        Raises QuantizeError where the first token is part of a character: llama.cpp gives no probabilities then.
        """
        found = self._complete(prompt, 1, {"n_probs": count}).get("completion_probabilities")
        if not found:
            raise QuantizeError("llama.cpp gives no probabilities for a token that is part of a character")
        tops = found[0]["top_logprobs"]
        return [(int(top["id"]), float(top["logprob"])) for top in tops]

    def latency(self, prompt: list[int], *, new_tokens: int, repeats: int) -> Latency:
        """Wall time around the whole call; time to the first token is llama.cpp's own prompt time."""
        options = {"ignore_eos": True, "cache_prompt": False}
        self._complete(prompt, WARM_UP_TOKENS, options)
        runs = []
        for _ in range(repeats):
            start = time.monotonic()
            timings = self._complete(prompt, new_tokens, options)["timings"]
            runs.append((time.monotonic() - start, timings["prompt_ms"] / 1000))
        return summarize(runs, new_tokens=new_tokens)

    def throughput(self, prompts: Sequence[list[int]], *, new_tokens: int) -> float:
        """One request a slot, sent together; decoding begins for the last when its prompt is computed."""
        options = {"ignore_eos": True, "cache_prompt": False}

        def timed(prompt: list[int], count: int) -> tuple[float, float]:
            start = time.monotonic()
            timings = self._complete(prompt, count, options)["timings"]
            return time.monotonic(), start + timings["prompt_ms"] / 1000

        with ThreadPoolExecutor(len(prompts)) as pool:
            for count in (BATCH_WARM_UP, new_tokens):
                times = list(pool.map(timed, prompts, [count] * len(prompts)))
        end, decoding = max(end for end, _ in times), max(start for _, start in times)
        return len(prompts) * (new_tokens - 1) / max(end - decoding, 1e-9)

    def _complete(self, prompt: list[int], max_new_tokens: int, options: dict[str, Any]) -> dict[str, Any]:
        body = {"prompt": prompt, "n_predict": max_new_tokens, "temperature": 0.0, "return_tokens": True, **options}
        return self._server.complete(body)

    def close(self) -> None:
        """Stops the server."""
        self._server.close()
