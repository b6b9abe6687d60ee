"""W8A8: int8 weights with one scale an output channel, int8 activations with one scale a token, chosen at run time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunewright.models.quiet import import_quietly
from tunewright.models.tokens import Example
from tunewright.quantize.compressor import compress
from tunewright.quantize.config import Int8Options
from tunewright.quantize.scheme import EngineName, head_name, inner_linears, weight_counts

import_quietly("llmcompressor")


class Int8:
    """Needs no calibration: weights are known, activations are measured as they come."""

    engine: EngineName = "transformers"
    bits = 8.0
    dtype = "bfloat16"
    needs_calibration = False

    def __init__(self, options: Int8Options) -> None:
        self.options = options

    def predicted_bytes(self, model: Any) -> int:
        """One byte a weight, two an output channel; the rest in 16 bits."""
        linears, rest = weight_counts(model)
        return linears + 2 * rest + 2 * sum(layer.out_features for layer in inner_linears(model).values())

    def write(
        self, model: Any, tokenizer_folder: Path, target: Path, *, calibration: Sequence[Example]
    ) -> dict[str, Any]:
        """Writes compressed-tensors "int-quantized"."""
        from llmcompressor.modifiers.quantization import QuantizationModifier

        recipe = [QuantizationModifier(targets=["Linear"], scheme="W8A8", ignore=[head_name(model)])]
        compress(model, recipe, folder=tokenizer_folder, target=target)
        return {"layers": len(inner_linears(model))}
