"""Latency as defined: a fixed number of generated tokens, warm, one request at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tunewright.models.generate import Sampling, generate
from tunewright.models.tokens import ChatTokenizer

WARM_UP_TOKENS = 8


@dataclass(frozen=True)
class Latency:
    """Seconds for `new_tokens` tokens over `repeats` runs at batch 1; tokens_per_second is decoding alone."""

    p50_s: float
    p95_s: float
    first_token_s: float
    tokens_per_second: float
    new_tokens: int
    repeats: int
    seconds: tuple[float, ...]


def measure_latency(
    model: Any, tokenizer: ChatTokenizer, prompt_ids: list[int], *, new_tokens: int, repeats: int
) -> Latency:
    """Greedy, end tokens ignored, after a short warm-up."""
    generate(model, tokenizer, [prompt_ids], Sampling(max_new_tokens=WARM_UP_TOKENS, ignore_end=True))
    sampling = Sampling(max_new_tokens=new_tokens, ignore_end=True)
    runs = [generate(model, tokenizer, [prompt_ids], sampling, label="latency")[0] for _ in range(repeats)]
    return summarize([(run.seconds, run.first_token_s) for run in runs], new_tokens=new_tokens)


def summarize(runs: list[tuple[float, float]], *, new_tokens: int) -> Latency:
    """From (whole seconds, seconds to the first token) of each run."""
    seconds = [whole for whole, _ in runs]
    first = float(np.median([first for _, first in runs]))
    decoding = [(new_tokens - 1) / (whole - first) for whole, first in runs if whole > first]
    return Latency(
        p50_s=float(np.percentile(seconds, 50)),
        p95_s=float(np.percentile(seconds, 95)),
        first_token_s=first,
        tokens_per_second=float(np.median(decoding)) if decoding else 0.0,
        new_tokens=new_tokens,
        repeats=len(runs),
        seconds=tuple(seconds),
    )
