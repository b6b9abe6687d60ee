"""How a loaded model is made ready for training, before the method adds what it trains."""

from __future__ import annotations

from typing import Any

from tunewright.models.adapters_layers import decoder_layers
from tunewright.models.kernels.fused import fuse
from tunewright.models.kernels.head_loss import cut_head
from tunewright.models.packing import ATTENTION, ATTENTION_SDPA
from tunewright.train.config import TrainConfig


def compile_parts(model: Any) -> int:
    """torch.compile for what takes hidden states and nothing else, in place; returns how many parts. Attention is left
    out: its segments are others in every micro-batch, and each would be compiled anew."""
    found = 0
    for layer in decoder_layers(model):
        for name, part in layer.named_children():
            if name.endswith(("mlp", "norm")):
                part.compile(dynamic=True)
                found += 1
    return found


def settle(model: Any, config: TrainConfig) -> None:
    """Attention, kernels, cache and checkpointing, in place."""
    is_plain = config.kernels == "plain"
    if config.packing:
        model.set_attn_implementation(ATTENTION_SDPA if is_plain else ATTENTION)
    if not is_plain:
        fuse(model)
        cut_head(model)
    model.config.use_cache = False
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
