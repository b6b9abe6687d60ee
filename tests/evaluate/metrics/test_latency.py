"""Latency at batch 1 and 8: keys, statistics, and that nothing of a batch's work is shared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from tunewright.core.errors import ConfigError
from tunewright.core.scoring import compare
from tunewright.evaluate.config import LatencyOptions
from tunewright.evaluate.metrics.latency import Latency, keys_of
from tunewright.evaluate.scorer import ModelMetric
from tunewright.models.load import load_model
from tunewright.models.tokens import ChatTokenizer

ALONE = ["latency.p50_s", "latency.p95_s", "latency.first_token_s", "latency.tokens_per_second"]
EIGHT = [
    "latency.batch8_p50_s",
    "latency.batch8_p95_s",
    "latency.batch8_first_token_s",
    "latency.batch8_tokens_per_second",
]


class Counted:
    """A model that counts the positions and rows it is asked for."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.shapes: list[tuple[int, int]] = []

    def __call__(self, **words: Any) -> Any:
        self.shapes.append(tuple(words["input_ids"].shape))
        return self._model(**words)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> ChatTokenizer:
    return ChatTokenizer.load(tiny)


@pytest.fixture
def model(tiny: Path) -> Counted:
    return Counted(load_model(tiny, dtype=torch.float32))


def metric(**options: Any) -> Latency:
    return Latency(LatencyOptions.model_validate({"name": "latency", **options}))


def test_the_keys_of_batch_1_name_none() -> None:
    assert Latency.metric_keys(LatencyOptions()) == [*ALONE, *EIGHT]
    assert Latency.metric_keys(LatencyOptions(batch_sizes=(1,))) == ALONE
    assert keys_of(2)[0] == "latency.batch2_p50_s"
    assert isinstance(metric(), ModelMetric)


@pytest.mark.parametrize("sizes", [(), (1, 1), (0,), (8, -1)])
def test_batch_sizes_are_checked(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError):
        LatencyOptions(batch_sizes=sizes)


def test_every_run_is_a_line_without_a_partner(model: Counted, tokenizer: ChatTokenizer) -> None:
    found = metric(new_tokens=12, repeats=4).measure_model(model, tokenizer, [5, 6, 7, 8], max_length=64)
    assert [one.metric for one in found] == [*ALONE, *EIGHT]
    assert all(len(one.statistics) == 4 and not one.paired for one in found)
    assert [one.higher_is_better for one in found] == [False, False, False, True] * 2
    assert "|batch:1|" in found[0].signature and "tokens:12|prompt:4|batch:8|warm" in found[4].signature
    by_key = {one.metric: one.value for one in found}
    assert 0 < by_key["latency.batch8_first_token_s"] < by_key["latency.batch8_p50_s"]
    assert compare(found[4], found[4], seed=7).test == "permutation"


def test_a_batch_is_eight_whole_prompts_and_all_their_tokens(model: Counted, tokenizer: ChatTokenizer) -> None:
    """Eight equal prompts would share all their work if they were asked like others: the first step has 8 rows of 20
    tokens, and the others 8 rows of one."""
    found = metric(new_tokens=6, repeats=1, batch_sizes=(8,)).measure_model(
        model, tokenizer, list(range(20)), max_length=64
    )
    warm_up, measured = model.shapes[:8], model.shapes[8:]
    assert warm_up == [(8, 20), *[(8, 1)] * 7] and measured == [(8, 20), *[(8, 1)] * 5]
    whole, first, speed = (float(found[place].statistics[0, 0]) for place in (0, 2, 3))
    assert speed == pytest.approx(8 * 5 / (whole - first)), "the tokens of all, while decoding"


def test_new_tokens_that_leave_no_room_are_refused(model: Counted, tokenizer: ChatTokenizer) -> None:
    with pytest.raises(ConfigError, match="60 new tokens leave 4 of the model's 64 for the prompt"):
        metric(new_tokens=60).measure_model(model, tokenizer, [5], max_length=64)
