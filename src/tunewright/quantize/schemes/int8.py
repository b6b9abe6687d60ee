"""INT8 weights with one scale an output channel; with activations rounded to int8 a token at run time, or without."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunewright.core.registry import PluginOptions
from tunewright.models.quiet import import_quietly
from tunewright.models.tokens import Example
from tunewright.quantize.compressor import compress
from tunewright.quantize.scheme import UNPACKS, EngineName, head_name, inner_linears
from tunewright.quantize.shapes import WeightShapes, safetensors_bytes, sixteen_bits

import_quietly("llmcompressor")

WEIGHTS_ONLY = "int8-weight"


class Int8:
    """Needs no calibration: weights are known, activations are measured as they come."""

    engine: EngineName = "transformers"
    bits = 8.0
    dtype = "bfloat16"
    needs_calibration = False
    no_speed = f"{UNPACKS}; engines with integer kernels (vLLM) gain"

    def __init__(self, options: PluginOptions) -> None:
        self.weights_only = options.name == WEIGHTS_ONLY

    def check(self, folder: Path, shapes: WeightShapes) -> None:
        """Any model and any machine will do."""

    def predicted_bytes(self, shapes: WeightShapes) -> int:
        """One byte a weight, two an output channel; the rest in 16 bits. Packed weights (four in an int32) also store
        their shape."""
        tensors = sixteen_bits(shapes.rest)
        for name, (rows, width) in shapes.linears.items():
            columns = -(-width // 4) * 4 if self.weights_only else width
            tensors += [(name, float(rows * columns)), (f"{name}_scale", 2.0 * rows)]
            tensors += [(f"{name}_shape", 16.0)] if self.weights_only else []
        return safetensors_bytes(tensors)

    def write(
        self, model: Any, tokenizer_folder: Path, target: Path, *, calibration: Sequence[Example]
    ) -> dict[str, Any]:
        """Writes compressed-tensors "int-quantized", or "pack-quantized" where only weights are rounded."""
        from llmcompressor.modifiers.quantization import QuantizationModifier

        layers, head = len(inner_linears(model)), head_name(model)
        if self.weights_only:
            recipe = QuantizationModifier(config_groups={"group_0": _weights_only()}, ignore=[head])
        else:
            recipe = QuantizationModifier(targets=["Linear"], scheme="W8A8", ignore=[head])
        compress(model, [recipe], folder=tokenizer_folder, target=target)
        return {"layers": layers}


def _weights_only() -> Any:
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    weights = QuantizationArgs(num_bits=8, symmetric=True, strategy="channel")
    return QuantizationScheme(targets=["Linear"], weights=weights)
