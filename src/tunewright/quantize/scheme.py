"""What a scheme is: it writes one variant of a model and says which engine measures it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from torch import nn

from tunewright.core.errors import TunewrightError
from tunewright.models.tokens import Example
from tunewright.quantize.shapes import WeightShapes

EngineName = Literal["transformers", "llama.cpp"]
UNPACKS = "transformers multiplies dequantized weights"
"""Why a compressed-tensors variant is not faster where it is measured."""


class QuantizeError(TunewrightError):
    """A variant cannot be built or measured."""


class Scheme(Protocol):
    """One format, made from its options (`SCHEMES.target(options.name)(options)`)."""

    engine: EngineName
    """Which engine measures the variant."""
    bits: float
    """Stored bits a weight of the linear layers, scales included."""
    dtype: str
    """Number format of everything that is not quantized."""
    needs_calibration: bool
    """Whether `write` looks at calibration rows."""
    no_speed: str
    """Why the engine that measures it does not gain speed from the format; empty where it can."""

    def check(self, folder: Path, shapes: WeightShapes) -> None:
        """Raises what `write` would raise of the base model in `folder` and of this machine, before work starts."""
        ...

    def predicted_bytes(self, shapes: WeightShapes) -> int:
        """Size of the weight files that `write` will make of a model with these shapes, within two percent."""
        ...

    def write(
        self, model: Any, tokenizer_folder: Path, target: Path, *, calibration: Sequence[Example]
    ) -> dict[str, Any]:
        """Writes weights, config and tokenizer into the existing folder `target`; returns facts for the note.

        `model` is used up: the caller has no further use for it, so no second copy has to be made.
        `tokenizer_folder` is the base model's folder. `calibration`: rows of the training split, empty where
        `needs_calibration` is false.
        """
        ...


def inner_linears(model: Any) -> dict[str, nn.Linear]:
    """The linear layers that a scheme quantizes, by name: all but the output head, which every format keeps finer."""
    head = model.get_output_embeddings()
    return {
        name: module for name, module in model.named_modules() if isinstance(module, nn.Linear) and module is not head
    }


def head_name(model: Any) -> str:
    """Module name of the output head ("lm_head" in Llama)."""
    head = model.get_output_embeddings()
    return next((name for name, module in model.named_modules() if module is head), "lm_head")


def group_size_for(widths: Sequence[int], wanted: int, *, scheme: str = "awq") -> int:
    """The largest power of two up to `wanted` that divides every layer's input width.

    A power of two because the INT4 kernels of vLLM know groups of 32, 64 and 128. (576, 1536) at 128 gives 64.
    Raises QuantizeError when not even 16 divides them.
    """
    size = 1 << (wanted.bit_length() - 1)
    while size >= 16:
        if all(width % size == 0 for width in widths):
            return size
        size //= 2
    raise QuantizeError(
        f"the model's layer widths {sorted(set(widths))} have no common group size of 16 or more",
        where=f"quantize.variants: {scheme}",
        fix=f"leave {scheme} out of quantize.variants; int8 takes any width",
    )
