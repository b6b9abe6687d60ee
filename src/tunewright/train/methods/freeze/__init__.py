"""Training the last layers of a frozen model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunewright.core.errors import ConfigError
from tunewright.models.adapters_layers import decoder_layers
from tunewright.models.save import save_model
from tunewright.train.method import Kind
from tunewright.train.methods.options import FreezeOptions


class Freeze:
    """The last layers get gradients, nothing else does; what is saved is a whole model."""

    kind: Kind = "full"
    merges = True
    starts_as_base = True
    base_bits = None
    extra_positions = 0

    def __init__(self, options: FreezeOptions) -> None:
        self.options = options

    def prepare(self, model: Any) -> Any:
        """Raises ConfigError when the model has fewer layers than are to be trained."""
        layers = decoder_layers(model)
        if self.options.layers > len(layers):
            raise ConfigError(
                f"{self.options.layers} layers are to be trained, and the model has {len(layers)}",
                where="train.method.layers",
                fix=f"use at most {len(layers)}, or train.method.name=full",
            )
        trained = layers[-self.options.layers :]
        if self.options.norm:
            trained.append(_last_norm(model))
        if self.options.head:
            trained.append(model.get_output_embeddings())
        model.requires_grad_(False)
        for module in trained:
            module.requires_grad_(True)
        return model

    def save(self, model: Any, target: Path, *, base: str, revision: str, tokenizer_from: Path) -> None:
        """A transformers folder with the tokenizer linked beside the weights."""
        save_model(model, target, tokenizer_from=tokenizer_from)


def _last_norm(model: Any) -> Any:
    norm = getattr(model.base_model, "norm", None)
    if norm is None:
        raise ConfigError(
            "the norm behind the last layer of this model has another name than Llama's",
            where="train.method.norm",
            fix="use train.method.norm=false",
        )
    return norm
