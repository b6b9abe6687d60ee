"""LoRA through peft."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from peft import LoraConfig, get_peft_model

from tunewright.core import files
from tunewright.core.errors import ConfigError
from tunewright.train.methods.options import LoraOptions


class Lora:
    """Low-rank adapters beside frozen linear layers; at the start the adapted model equals the base (B is zero)."""

    kind: Literal["adapter", "full"] = "adapter"

    def __init__(self, options: LoraOptions) -> None:
        self.options = options

    def prepare(self, model: Any) -> Any:
        """Raises ConfigError when `targets` names no layer of this model."""
        targets = self.options.targets
        settings = LoraConfig(
            r=self.options.rank,
            lora_alpha=self.options.alpha,
            lora_dropout=self.options.dropout,
            target_modules=targets if isinstance(targets, str) else list(targets),
            bias="none",
            task_type="CAUSAL_LM",
        )
        try:
            return get_peft_model(model, settings)
        except ValueError as error:
            known = sorted({name.rsplit(".", 1)[-1] for name, _ in model.named_modules() if name.endswith("_proj")})
            raise ConfigError(
                f"train.method.targets does not fit this model: {str(error).splitlines()[0]}",
                fix=f"layers of this model: {', '.join(known)}; or all-linear",
            ) from None

    def save(self, model: Any, target: Path, *, base: str, revision: str, tokenizer_from: Path) -> None:
        """A standard PEFT folder that names the base as the project file does, not a path of this machine."""
        for settings in model.peft_config.values():
            settings.base_model_name_or_path = base
            settings.revision = revision
        with files.disk_errors(target):
            model.save_pretrained(str(target), safe_serialization=True, save_embedding_layers=False)
        (target / "README.md").unlink(missing_ok=True)  # peft's model card template is empty
