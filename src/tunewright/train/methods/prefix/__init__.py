"""Prefix-tuning: models/adapters_prefix.py computes it, the saved folder is PEFT's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunewright.models import adapters_prefix
from tunewright.models.adapters import save_adapter
from tunewright.models.tokens import ChatTokenizer
from tunewright.train.method import Kind
from tunewright.train.methods.options import PrefixOptions


class Prefix:
    """A trained prefix before every row. It starts as a model prompted with `initial_text`, not as the base: a prefix
    that changes nothing does not exist, as attention always gives it some weight."""

    kind: Kind = "adapter"
    merges = False
    starts_as_base = False
    base_bits = None

    def __init__(self, options: PrefixOptions) -> None:
        self.options = options
        self.extra_positions = options.virtual_tokens

    def prepare(self, model: Any) -> Any:
        """Raises ConfigError for a model without plain causal attention. The model's folder holds its tokenizer."""
        options = self.options
        ids = ChatTokenizer.load(Path(model.name_or_path)).encode(options.initial_text)
        repeats = -(-options.virtual_tokens // len(ids))
        size = options.projection_size if options.projection else None
        return adapters_prefix.adapt(model, (ids * repeats)[: options.virtual_tokens], projection_size=size)

    def save(self, model: Any, target: Path, *, base: str, revision: str, tokenizer_from: Path) -> None:
        """A standard PEFT folder with the prefix itself, also where a projection made it."""
        save_adapter(model, target, base=base, revision=revision)
