"""Several answers to one prompt: it is computed once, and they are what they are when it is computed for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tunewright.models.forward import make_fast
from tunewright.models.generate import Request, RunningBatch, Sampling
from tunewright.models.load import load_model
from tunewright.models.tokens import ChatTokenizer

QUESTIONS = ["what is the fee?", "what is the fee?", "卡丢了怎么办", "what is the fee?", "卡丢了怎么办"]


@pytest.fixture(scope="module", params=["transformers", "ours"])
def model(request: pytest.FixtureRequest, tiny: Path) -> Any:
    loaded = load_model(tiny, dtype=torch.float32)
    if request.param == "ours" and not make_fast(loaded):
        pytest.skip("our own pass does not take this model here")
    return loaded


def answers(model: Any, tokenizer: ChatTokenizer, *, once: bool, shared: bool) -> tuple[list[Request], int]:
    """(the requests at their end, prompt tokens computed)."""
    rows = [
        Request(tokenizer.encode(f"the same first words: {text}"), sampling(seed))
        for seed, text in enumerate(QUESTIONS)
    ]
    batch = RunningBatch(model, tokenizer)
    batch.computes_once = once
    if shared:
        batch.share_prefix(tokenizer.encode("the same first words"))
    joining = batch.begin(rows)
    while not batch.advance(joining, 16):
        pass
    while batch.rows:
        batch.step()
    return rows, int(joining.ids.numel())


def sampling(seed: int) -> Sampling:
    return Sampling(max_new_tokens=12 + seed, temperature=1.0, seed=seed, ignore_end=True)


@pytest.mark.parametrize("shared", [False, True], ids=["no prefix", "shared prefix"])
def test_computed_once_is_computed_for_each(model: Any, tiny: Path, shared: bool) -> None:
    tokenizer = ChatTokenizer.load(tiny)
    once, few = answers(model, tokenizer, once=True, shared=shared)
    each, many = answers(model, tokenizer, once=False, shared=shared)
    assert [row.output_ids for row in once] == [row.output_ids for row in each]
    assert len({tuple(row.output_ids[:12]) for row in once}) == 5, "every choice has its own seed"
    assert few / many == 2 / 5, "two different prompts among five"
