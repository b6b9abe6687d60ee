"""The model's shape from config.json and the headers of its weights, and what training it needs in memory."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from tunewright.models import source

NOT_ADAPTED = ("embed_tokens", "lm_head", "wte", "wpe")
"""peft's all-linear leaves embeddings and the output layer alone."""
FULL_BYTES = 16
"""A weight under mixed-precision AdamW: 2 the weight, 2 the gradient, 4 + 4 + 4 the fp32 copy and two moments
(Rajbhandari et al. 2020, ZeRO, section 3.1)."""
ADAPTER_BYTES = 16
FROZEN_BYTES = 2
ACTIVATION_BYTES = 49.5
"""A token, a layer and a unit of hidden size, with fused attention, nothing checkpointed."""


@dataclass(frozen=True)
class ModelFacts:
    """family: model_type of config.json; linear: weights of all linear layers, embeddings and output head apart;
    lora_per_rank: weights that LoRA on every one of them adds for each rank."""

    family: str
    parameters: int
    hidden: int
    layers: int
    linear: int
    lora_per_rank: int

    def lora_parameters(self, rank: int) -> int:
        """Weights of an adapter of this rank on every linear layer."""
        return self.lora_per_rank * rank

    def full_bytes(self) -> int:
        """Weights, gradients and optimizer of full fine-tuning."""
        return self.parameters * FULL_BYTES

    def adapter_bytes(self, trained: int, *, base_bits: int | None = None) -> int:
        """The frozen base and `trained` weights with gradients and optimizer. base_bits: of its linear layers, 4 (nf4
        with its scales: 4.127) or 8; None: 16-bit."""
        per_weight = {4: 4.127 / 8, 8: 1.0}.get(base_bits or 16, FROZEN_BYTES)
        rest = (self.parameters - self.linear) * FROZEN_BYTES
        return round(self.linear * per_weight + rest) + trained * ADAPTER_BYTES

    def activation_bytes(self, tokens: int) -> int:
        """What the backward pass of a micro-batch keeps without checkpointing."""
        return round(ACTIVATION_BYTES * tokens * self.layers * self.hidden)


def model_facts(folder: Path) -> ModelFacts:
    """Reads config.json and safetensors headers: no weight is loaded."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config = {**config, **config.get("text_config", {})}
    shapes = {
        name: shape for path in source.weight_files(folder) for name, (_, shape) in source.stored_tensors(path).items()
    }
    linear = [
        shape
        for name, shape in shapes.items()
        if len(shape) == 2 and name.endswith(".weight") and not any(part in NOT_ADAPTED for part in name.split("."))
    ]
    return ModelFacts(
        family=str(config.get("model_type", "unknown")),
        parameters=sum(math.prod(shape) for shape in shapes.values()),
        hidden=int(config.get("hidden_size") or config.get("n_embd") or 0),
        layers=int(config.get("num_hidden_layers") or config.get("n_layer") or 0),
        linear=sum(math.prod(shape) for shape in linear),
        lora_per_rank=sum(sum(shape) for shape in linear),
    )
