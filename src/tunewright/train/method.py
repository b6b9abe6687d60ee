"""What a training method must offer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol

Kind = Literal["adapter", "full"]


class Method(Protocol):
    """A registered method is constructed from its options. tests/contracts/test_methods.py holds every one to this."""

    kind: Kind
    """Whether `save` writes an adapter or whole weights."""
    merges: bool
    """Whether what was trained ends up in the base's weights: a whole model that can be quantized."""
    starts_as_base: bool
    """Whether the prepared model computes what the base does, until the first step (1e-5 in float32)."""
    base_bits: Literal[4, 8] | None
    """Bits of the frozen base while training; the stage then loads it with `models.adapters_base.load_base`."""
    extra_positions: int
    """Positions of the model's context that the method takes for itself; rows can be that much shorter."""

    def prepare(self, model: Any) -> Any:
        """Marks what is trained and returns the model to train. `model`: a causal language model on its device, its
        attention and its gradient checkpointing as they are to be."""

    def save(self, model: Any, target: Path, *, base: str, revision: str, tokenizer_from: Path) -> None:
        """Writes the trained weights to `target` as safetensors in the standard layout (PEFT or transformers)."""
