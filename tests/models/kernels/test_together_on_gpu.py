"""A LoRA's step on a GPU with all kernels together against the plain path in float64: loss and every gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, set_seed

from tunewright.models.loss import packed_loss, padded_loss
from tunewright.models.packing import PLAIN
from tunewright.models.tokens import IGNORED, Example
from tunewright.train.config import TrainConfig
from tunewright.train.settle import settle

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
SHAPE: dict[str, Any] = {
    "vocab_size": 500,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "tie_word_embeddings": False,
}


def _rows() -> list[Example]:
    """Two families with a start of their own, and rows with none, 5 to 300 tokens."""
    torch.manual_seed(3)
    rows = []
    for number, length in enumerate([5, 17, 40, 64, 65, 130, 300, 12]):
        start = [list(range(40)), list(range(90, 100)), []][number % 3] if length > 45 else []
        ids = start + torch.randint(0, 500, (length - len(start),)).tolist()
        first = max(1, length // 2)
        rows.append(Example(tuple(ids), (*[IGNORED] * first, *ids[first:]), str(number)))
    return rows


def _step(dtype: torch.dtype, *, kv_heads: int, plain: bool, checkpoints: bool) -> tuple[float, dict[str, Tensor]]:
    set_seed(1)
    model = AutoModelForCausalLM.from_config(
        LlamaConfig(**SHAPE, num_key_value_heads=kv_heads), dtype=torch.float32, attn_implementation=PLAIN
    )
    model = model.to("cuda", dtype)
    settings = TrainConfig(kernels="plain" if plain else "auto", packing=not plain, gradient_checkpointing=checkpoints)
    settle(model, settings)
    lora = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    adapted = get_peft_model(model, lora).train()
    if dtype == torch.float64:
        adapted = adapted.double()
    loss = (padded_loss if plain else packed_loss)(adapted, _rows())
    loss.backward()
    gradients = {name: w.grad.double().cpu() for name, w in adapted.named_parameters() if w.grad is not None}
    return loss.item(), gradients


@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("checkpoints", [False, True])
def test_loss_and_gradients_are_those_of_the_plain_path(kv_heads: int, checkpoints: bool) -> None:
    """bf16 rounds every layer: what counts is that the kernels err no more than transformers' own do in it."""
    exact, wanted = _step(torch.float64, kv_heads=kv_heads, plain=True, checkpoints=False)
    own, found = _step(torch.bfloat16, kv_heads=kv_heads, plain=False, checkpoints=checkpoints)
    theirs, usual = _step(torch.bfloat16, kv_heads=kv_heads, plain=True, checkpoints=False)
    assert found.keys() == wanted.keys() == usual.keys()
    assert abs(own - exact) < max(1.5 * abs(theirs - exact), 1e-3 * exact)

    def error(gradients: dict[str, Tensor]) -> float:
        return sum(float((gradients[name] - wanted[name]).norm() / wanted[name].norm()) for name in wanted)

    assert error(found) < 1.3 * error(usual) + 1e-3 * len(wanted)
