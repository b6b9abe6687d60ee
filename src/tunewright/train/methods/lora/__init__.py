"""LoRA through peft, with its variants."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from peft import LoraConfig, get_peft_model
from torch import Tensor

from tunewright.models.adapters import save_adapter
from tunewright.models.adapters_layers import check_targets
from tunewright.train.method import Kind
from tunewright.train.methods.lora import pissa
from tunewright.train.methods.options import LoraOptions


class Lora:
    """Low-rank adapters beside frozen linear layers; at the start the adapted model equals the base (B is zero; with
    pissa the base gives up what A and B hold, and with dora the lengths are the base's)."""

    kind: Kind = "adapter"
    merges = True
    starts_as_base = True
    extra_positions = 0

    def __init__(self, options: LoraOptions) -> None:
        self.options = options
        self.base_bits: Literal[4, 8] | None = options.base_bits
        self._initial: dict[str, Tensor] = {}

    def prepare(self, model: Any) -> Any:
        """Raises ConfigError when `targets` names a layer that this model lacks.

        A base in 4 or 8 bits keeps the 16-bit format of its norms, embedding and head; peft keeps the adapter in
        float32.
        """
        options, is_pissa = self.options, self.options.variant == "pissa"
        assert not self.base_bits or model.is_quantized, "the base comes from models.adapters_base.load_base"
        if options.targets != "all-linear":
            check_targets(model, options.targets, where="train.method.targets")
        settings = LoraConfig(
            r=options.rank,
            lora_alpha=options.alpha,
            lora_dropout=options.dropout,
            target_modules=options.targets if isinstance(options.targets, str) else list(options.targets),
            bias="none",
            task_type="CAUSAL_LM",
            use_rslora=options.variant == "rslora",
            use_dora=options.variant == "dora",
            init_lora_weights=pissa.START if is_pissa else True,
        )
        if not is_pissa:
            return get_peft_model(model, settings)
        with pissa.same_everywhere():
            adapted = get_peft_model(model, settings)
        self._initial = pissa.state_of(adapted)
        return adapted

    def save(self, model: Any, target: Path, *, base: str, revision: str, tokenizer_from: Path) -> None:
        """A standard PEFT folder; with pissa converted to a plain adapter for the untouched base."""
        save_adapter(model, target, base=base, revision=revision)
        if self._initial:
            pissa.make_plain(target, self._initial)
