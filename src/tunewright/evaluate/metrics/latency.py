"""Latency: seconds for a fixed number of generated tokens, warm, one request at a time."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from tunewright.core.scoring import Aggregate, Floats, Measured
from tunewright.evaluate.config import LatencyOptions
from tunewright.evaluate.prompts import begin_token, cut_left, prompt_room
from tunewright.models.tokens import ChatTokenizer

VERSION = 1


class Latency:
    """`latency.p50_s`, `latency.p95_s`, `latency.first_token_s`, `latency.tokens_per_second` (decoding alone)."""

    def __init__(self, options: LatencyOptions) -> None:
        self.options = options

    @staticmethod
    def metric_keys(options: LatencyOptions) -> list[str]:
        """Flat keys that `measure_model` produces."""
        return ["latency.p50_s", "latency.p95_s", "latency.first_token_s", "latency.tokens_per_second"]

    def measure_model(
        self, model: Any, tokenizer: ChatTokenizer, prompt_ids: list[int], *, max_length: int
    ) -> list[Measured]:
        """Times `repeats` runs. One line of statistics a run: n is the number of runs, and they have no partners.

        Raises ConfigError when `max_length` has no place for the new tokens.
        """
        from tunewright.models.speed import measure_latency

        new_tokens = self.options.new_tokens
        room = prompt_room(max_length, new_tokens, where="evaluate.metrics.latency.new_tokens")
        prompt_ids, _ = cut_left(prompt_ids, room, bos=begin_token(tokenizer))
        runs = [
            measure_latency(model, tokenizer, prompt_ids, new_tokens=new_tokens, repeats=1)
            for _ in range(self.options.repeats)
        ]
        signature = f"tokens:{new_tokens}|prompt:{len(prompt_ids)}|batch:1|warm|greedy|device:{model.device.type}"
        whole, first = [run.p50_s for run in runs], [run.first_token_s for run in runs]
        return [
            _timing("latency.p50_s", whole, percentile(50), "s", signature),
            _timing("latency.p95_s", whole, percentile(95), "s", signature),
            _timing("latency.first_token_s", first, percentile(50), "s", signature),
            _timing("latency.tokens_per_second", [r.tokens_per_second for r in runs], percentile(50), "1/s", signature),
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
