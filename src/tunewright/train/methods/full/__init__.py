"""All weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunewright.models.save import save_model
from tunewright.train.method import Kind
from tunewright.train.methods.options import FullOptions


class Full:
    """Every parameter gets a gradient; tied weights stay tied."""

    kind: Kind = "full"
    merges = True
    starts_as_base = True
    base_bits = None
    extra_positions = 0

    def __init__(self, options: FullOptions) -> None:
        self.options = options

    def prepare(self, model: Any) -> Any:
        """Unfreezes everything."""
        model.requires_grad_(True)
        return model

    def save(self, model: Any, target: Path, *, base: str, revision: str, tokenizer_from: Path) -> None:
        """A transformers folder with the tokenizer linked beside the weights."""
        save_model(model, target, tokenizer_from=tokenizer_from)
