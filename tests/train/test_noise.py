"""NEFTune's noise has the paper's size for every row, packed or padded, and is there in training only."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tunewright.models.load import load_model
from tunewright.models.loss import packed_loss, padded_loss
from tunewright.models.packing import ATTENTION
from tunewright.models.tokens import Example
from tunewright.train.noise import embedding_noise

ALPHA = 5.0
ROWS = [Example((1,) * length, (-100,) * (length - 1) + (1,), str(length)) for length in (4, 16, 64)]


@pytest.fixture
def model(tiny: Path) -> Any:
    return load_model(tiny, dtype=torch.float32)


def embedded(model: Any, packing: bool) -> torch.Tensor:
    """What the embedding layer gives for ROWS: [tokens, width] packed, [rows, tokens, width] padded."""
    caught: list[torch.Tensor] = []
    with embedding_noise(model, ALPHA):
        hook = model.get_input_embeddings().register_forward_hook(lambda _, __, output: caught.append(output))
        if packing:
            model.set_attn_implementation(ATTENTION)
            packed_loss(model, ROWS, share_prefix=False)
        else:
            padded_loss(model, ROWS)
        hook.remove()
    return caught[0].detach()[0] if packing else caught[0].detach()


@pytest.mark.parametrize("packing", [True, False])
def test_each_row_gets_noise_of_its_own_length(model: Any, packing: bool) -> None:
    """Uniform in +-alpha / sqrt(L d), Jain et al. 2023: the largest of 4 x 64 or more draws is near the bound."""
    model.train()
    plain = model.get_input_embeddings()(torch.tensor([1]))[0].detach()
    found = embedded(model, packing)
    start = 0
    for index, row in enumerate(ROWS):
        length = len(row.input_ids)
        part = found[start : start + length] if packing else found[index, :length]
        bound = ALPHA / math.sqrt(length * 64)
        largest = float((part - plain).abs().max())
        assert 0.95 * bound < largest <= bound * 1.0001, length
        start += length


def test_no_noise_in_evaluation_and_none_left_behind(model: Any) -> None:
    plain = padded_loss(model, ROWS).item()
    with embedding_noise(model, ALPHA):
        assert padded_loss(model, ROWS).item() == plain
        model.train()
        assert padded_loss(model, ROWS).item() != plain
    assert padded_loss(model, ROWS).item() == plain
    with embedding_noise(model, 0.0):
        assert padded_loss(model, ROWS).item() == plain


def test_transformers_own_noise_shrinks_when_rows_are_packed(model: Any) -> None:
    """Why this is ours: its bound takes the length of the whole input (here 84 tokens), not of the row."""
    from transformers.integrations.neftune import neftune_post_forward_hook

    model.train()
    layer = model.get_input_embeddings()
    layer.neftune_noise_alpha = ALPHA
    noisy = neftune_post_forward_hook(layer, None, torch.zeros(1, 84, 64))
    assert float(noisy.abs().max()) < 0.3 * ALPHA / math.sqrt(4 * 64)
