"""Small trainings whose effect is measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from train_kit import conversations

from tunewright.core.chat import Conversation
from tunewright.models.load import load_model
from tunewright.models.loss import packed_loss
from tunewright.models.packing import ATTENTION
from tunewright.models.save import save_model
from tunewright.models.tokens import ChatTokenizer, Example

HELD_OUT = conversations(12, 100)


def examples(folder: Path, rows: Sequence[Conversation]) -> list[Example]:
    tokenizer = ChatTokenizer.load(folder)
    return [example for row in rows for example in tokenizer.examples(row, max_length=512)]


def adapted(model: Any, kind: str) -> Any:
    from peft import IA3Config, LoraConfig, get_peft_model

    if kind == "ia3":
        targets = {"target_modules": ["k_proj", "v_proj", "down_proj"], "feedforward_modules": ["down_proj"]}
        return get_peft_model(model, IA3Config(task_type="CAUSAL_LM", **targets))
    return get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"))


def train(base: Path, target: Path, rows: Sequence[Example], *, rate: float, kind: str = "lora") -> Path:
    """12 steps of AdamW on all rows, saved as the stage saves."""
    torch.manual_seed(1)
    model = load_model(base, dtype=torch.float32)
    model.set_attn_implementation(ATTENTION)
    model = model if kind == "full" else adapted(model, kind)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate, weight_decay=0)
    for _ in range(12):
        (packed_loss(model, rows) / sum(row.trained for row in rows)).backward()
        optimizer.step()
        optimizer.zero_grad()
    if kind == "full":
        save_model(model, target, tokenizer_from=base)
    else:
        model.save_pretrained(str(target), save_embedding_layers=False)
    return target
