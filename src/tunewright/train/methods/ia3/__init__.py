"""(IA)3 through peft: one learned factor for each key, value and inner feed-forward channel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import IA3Config, get_peft_model

from tunewright.core.errors import ConfigError
from tunewright.models.adapters import save_adapter
from tunewright.models.adapters_layers import check_targets, linear_names
from tunewright.train.method import Kind
from tunewright.train.methods.options import Ia3Options

KEYS_AND_VALUES = ("k_proj", "v_proj")
FEEDFORWARD = ("down_proj",)
"""Llama's names, which most chat models share. peft's own list takes the queries of some of them in place of the keys,
against the article (section 3.3)."""


class Ia3:
    """All factors start at one, so that the adapted model is the base at first."""

    kind: Kind = "adapter"
    merges = True
    starts_as_base = True
    base_bits = None
    extra_positions = 0

    def __init__(self, options: Ia3Options) -> None:
        self.options = options

    def prepare(self, model: Any) -> Any:
        """Raises ConfigError when `targets` does not fit this model, or is needed because its names are others."""
        targets, feedforward = self._chosen(model)
        check_targets(model, targets, where="train.method.targets")
        settings = IA3Config(target_modules=list(targets), feedforward_modules=list(feedforward), task_type="CAUSAL_LM")
        return get_peft_model(model, settings)

    def _chosen(self, model: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(targets, those of them whose input is scaled)."""
        names = sorted({name.rsplit(".", 1)[-1] for name in linear_names(model)})
        targets = self.options.targets or (*KEYS_AND_VALUES, *(self.options.feedforward or FEEDFORWARD))
        if self.options.targets is None and not set(KEYS_AND_VALUES) <= set(names):
            raise ConfigError(
                "the key and value layers of this model have other names than Llama's",
                where="train.method.targets",
                fix=f"name them in targets and feedforward; layers of this model: {', '.join(names)}",
            )
        feedforward = self.options.feedforward
        return targets, feedforward or tuple(name for name in targets if name.rsplit(".", 1)[-1] in FEEDFORWARD)

    def save(self, model: Any, target: Path, *, base: str, revision: str, tokenizer_from: Path) -> None:
        """A standard PEFT folder."""
        save_adapter(model, target, base=base, revision=revision)
