"""The prefix: where it starts, what it refuses, and folders that stock PEFT wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, PrefixTuningConfig, get_peft_model
from transformers import MistralConfig, MistralForCausalLM

from tunewright.core.errors import ConfigError
from tunewright.models import adapters_prefix, prefix
from tunewright.models.load import load_model
from tunewright.models.loss import mean_loss
from tunewright.models.tokens import IGNORED, Example

START = [257, 70, 80, 90, 100]
IDS = [257, *range(60, 80)]


@pytest.fixture
def model(tiny: Path) -> Any:
    return load_model(tiny, dtype=torch.float32)


@torch.inference_mode()
def logits(model: Any, *rows: list[int], mask: list[list[int]] | None = None) -> torch.Tensor:
    attention = None if mask is None else torch.tensor(mask)
    found: torch.Tensor = model(input_ids=torch.tensor(rows), attention_mask=attention).logits
    return found


@pytest.mark.parametrize("projection_size", [None, 16])
def test_it_starts_as_a_model_prompted_with_the_initial_ids(model: Any, projection_size: int | None) -> None:
    prompted = logits(model, [*START, *IDS])[:, len(START) :]
    alone = logits(model, IDS)
    adapted = adapters_prefix.adapt(model, START, projection_size=projection_size).eval()
    found = logits(adapted, IDS)
    assert torch.allclose(found, prompted, atol=1e-5)
    assert not torch.allclose(found, alone, atol=1e-3)


def test_padding_on_either_side_changes_no_real_token(model: Any) -> None:
    adapted = adapters_prefix.adapt(model, START).eval()
    alone = logits(adapted, IDS)[0]
    short, gap = IDS[:5], [0] * 16
    right = logits(adapted, IDS, [*short, *gap], mask=[[1] * 21, [1] * 5 + gap])
    left = logits(adapted, IDS, [*gap, *short], mask=[[1] * 21, gap + [1] * 5])
    for both, own in ((right, right[1, :5]), (left, left[1, 16:])):
        assert torch.allclose(both[0], alone, atol=1e-5)
        assert torch.allclose(own, alone[:5], atol=1e-5)


@pytest.mark.parametrize("projected", [False, True])
def test_a_folder_of_stock_peft_opens(tiny: Path, model: Any, tmp_path: Path, projected: bool) -> None:
    torch.manual_seed(1)
    settings = PrefixTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=4, prefix_projection=projected, encoder_hidden_size=8
    )
    theirs = get_peft_model(model, settings).eval()
    theirs.save_pretrained(str(tmp_path))
    ours = adapters_prefix.load(load_model(tiny, dtype=torch.float32), tmp_path)
    assert torch.allclose(logits(ours, IDS), logits(theirs, IDS), atol=1e-5)
    assert not torch.allclose(logits(ours, IDS), logits(load_model(tiny, dtype=torch.float32), IDS), atol=1e-3)


def test_the_mean_loss_sees_the_prefix(model: Any) -> None:
    row = Example(tuple(IDS), (IGNORED, *IDS[1:]), "row")
    adapted = adapters_prefix.adapt(model, START).eval()
    steps = logits(adapted, IDS)[0].log_softmax(-1)
    expected = -sum(float(steps[place, token]) for place, token in enumerate(IDS[1:])) / (len(IDS) - 1)
    assert mean_loss(adapted, [row])[0] == pytest.approx(expected, rel=1e-5)


def test_its_own_generate_is_refused_with_the_reason(model: Any) -> None:
    adapted = adapters_prefix.adapt(model, START)
    with pytest.raises(NotImplementedError, match=r"generate with tunewright\.models\.generate"):
        adapted.generate(input_ids=torch.tensor([IDS]))


def test_reentrant_checkpointing_is_refused(model: Any) -> None:
    """It gives no gradient to what reaches a layer by name: the prefix would stay as it is, without a word."""
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    with pytest.raises(ConfigError, match="reentrant"):
        adapters_prefix.adapt(model, START)


def test_sliding_attention_is_refused() -> None:
    settings = MistralConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        sliding_window=4,
    )
    with pytest.raises(ConfigError, match="sliding"):
        adapters_prefix.adapt(MistralForCausalLM(settings), [1, 2, 3])
    settings.sliding_window = None
    plain = MistralForCausalLM(settings).eval()
    adapted = adapters_prefix.adapt(plain, [1, 2, 3]).eval()
    assert isinstance(adapted, PeftModel)
    assert torch.allclose(logits(adapted, [5, 6]), logits(plain, [1, 2, 3, 5, 6])[:, 3:], atol=1e-5)
    assert prefix.taken_positions(adapted) == 3 and prefix.taken_positions(plain) == 0
