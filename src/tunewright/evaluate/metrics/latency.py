"""Latency: seconds for a fixed number of generated tokens, warm, one request at a time and several together."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from tunewright.core.events import track
from tunewright.core.scoring import Aggregate, Floats, Measured
from tunewright.evaluate.config import LatencyOptions
from tunewright.evaluate.prompts import begin_token, cut_left, prompt_room
from tunewright.models.tokens import ChatTokenizer

VERSION = 1
Run = tuple[float, float, float]
"""Seconds until all answers are whole, seconds to the first token, tokens a second while decoding (all together)."""


class Latency:
    """`latency.p50_s`, `latency.p95_s`, `latency.first_token_s`, `latency.tokens_per_second` (decoding alone) of one
    request; `latency.batch8_p50_s` and so on of 8 that come together, whose tokens a second are those of all."""

    def __init__(self, options: LatencyOptions) -> None:
        self.options = options

    @staticmethod
    def metric_keys(options: LatencyOptions) -> list[str]:
        """Flat keys that `measure_model` produces."""
        return [key for size in options.batch_sizes for key in keys_of(size)]

    def measure_model(
        self, model: Any, tokenizer: ChatTokenizer, prompt_ids: list[int], *, max_length: int
    ) -> list[Measured]:
        """Times `repeats` runs of every batch size. One line of statistics a run: n is the number of runs, and they
        have no partners.

        Raises ConfigError when `max_length` has no place for the new tokens.
        """
        new_tokens = self.options.new_tokens
        room = prompt_room(max_length, new_tokens, where="evaluate.metrics.latency.new_tokens")
        prompt_ids, _ = cut_left(prompt_ids, room, bos=begin_token(tokenizer))
        found: list[Measured] = []
        for size in self.options.batch_sizes:
            run = partial(_alone, new_tokens) if size == 1 else partial(_together, size, new_tokens)
            repeats = track(range(self.options.repeats), f"latency at batch {size}", self.options.repeats)
            runs = [run(model, tokenizer, prompt_ids) for _ in repeats]
            settings = f"tokens:{new_tokens}|prompt:{len(prompt_ids)}|batch:{size}"
            signature = f"{settings}|warm|greedy|device:{model.device.type}"
            found += _measured(size, runs, signature)
        return found


def keys_of(size: int) -> list[str]:
    """The keys of one batch size; those of a lone request name none."""
    front = "latency." if size == 1 else f"latency.batch{size}_"
    return [f"{front}{name}" for name in ("p50_s", "p95_s", "first_token_s", "tokens_per_second")]


def _alone(new_tokens: int, model: Any, tokenizer: ChatTokenizer, prompt_ids: list[int]) -> Run:
    from tunewright.models.speed import measure_latency

    run = measure_latency(model, tokenizer, prompt_ids, new_tokens=new_tokens, repeats=1)
    return run.p50_s, run.first_token_s, run.tokens_per_second


def _together(size: int, new_tokens: int, model: Any, tokenizer: ChatTokenizer, prompt_ids: list[int]) -> Run:
    """All requests have the same prompt, but none of its work is shared: real ones differ."""
    from tunewright.models.speed import WARM_UP_TOKENS

    _batch(size, WARM_UP_TOKENS, model, tokenizer, prompt_ids)
    whole, first = _batch(size, new_tokens, model, tokenizer, prompt_ids)
    return whole, first, size * (new_tokens - 1) / (whole - first) if whole > first else 0.0


def _batch(
    size: int, new_tokens: int, model: Any, tokenizer: ChatTokenizer, prompt_ids: list[int]
) -> tuple[float, float]:
    """(seconds until the last answer is whole, seconds until every one has its first token)."""
    from tunewright.models.generate import Request, RunningBatch, Sampling

    batch = RunningBatch(model, tokenizer)
    batch.computes_once = False
    sampling = Sampling(max_new_tokens=new_tokens, ignore_end=True)
    requests = [Request(list(prompt_ids), sampling) for _ in range(size)]
    batch.add(requests)
    while batch.rows:
        batch.step()
    return max(request.seconds for request in requests), max(request.first_token_s for request in requests)


def _measured(size: int, runs: list[Run], signature: str) -> list[Measured]:
    p50, p95, first, speed = keys_of(size)
    whole = [run[0] for run in runs]
    return [
        _timing(p50, whole, percentile(50), "s", signature),
        _timing(p95, whole, percentile(95), "s", signature),
        _timing(first, [run[1] for run in runs], percentile(50), "s", signature),
        _timing(speed, [run[2] for run in runs], percentile(50), "1/s", signature),
    ]


def _timing(metric: str, values: list[float], aggregate: Aggregate, unit: str, signature: str) -> Measured:
    return Measured(
        metric,
        VERSION,
        np.array(values)[:, None],
        aggregate,
        unit=unit,
        higher_is_better=unit == "1/s",
        signature=signature,
        paired=False,
    )


def percentile(q: float) -> Aggregate:
    """The aggregate [R, n, 1] -> [R] that takes the q-th percentile over runs."""
    return partial(_percentile, q)


def _percentile(q: float, statistics: Floats) -> Floats:
    found: Floats = np.percentile(statistics[..., 0], q, axis=1)
    return found
