"""The layers of a model that training methods choose from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from tunewright.core.errors import ConfigError


def decoder_layers(model: Any) -> list[nn.Module]:
    """The decoder layers, first to last: in transformers they are the unit of gradient checkpointing."""
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def check_targets(model: Any, targets: Sequence[str], *, where: str) -> None:
    """Raises ConfigError for a name that ends no linear layer's (peft passes over it when another one fits)."""
    known = linear_names(model)
    unknown = [target for target in targets if not any(f".{name}".endswith(f".{target}") for name in known)]
    if unknown:
        last = sorted({name.rsplit(".", 1)[-1] for name in known})
        raise ConfigError(
            f"this model has no linear layer named {', '.join(unknown)}",
            where=where,
            fix=f"layers of this model: {', '.join(last)}",
        )


def linear_names(model: Any) -> list[str]:
    """Full names of the linear layers inside the decoder layers, in order."""
    inside = {id(module) for layer in decoder_layers(model) for module in layer.modules()}
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and id(module) in inside]
