"""What a training method must offer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol


class Method(Protocol):
    """A registered method is constructed from its options."""

    kind: Literal["adapter", "full"]
    """Whether `save` writes an adapter or whole weights."""

    def prepare(self, model: Any) -> Any:
        """Marks what is trained and returns the model to train. `model`: a causal language model on its device."""

    def save(self, model: Any, target: Path, *, base: str, revision: str, tokenizer_from: Path) -> None:
        """Writes the trained weights to `target` as safetensors in the standard layout (PEFT or transformers)."""
