"""bf16 and fp16: plain safetensors of the merged model. The one place where merged weights are stored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tunewright.core.registry import PluginOptions
from tunewright.models.save import save_model
from tunewright.models.tokens import Example
from tunewright.quantize.scheme import EngineName
from tunewright.quantize.shapes import WeightShapes, safetensors_bytes, sixteen_bits

DTYPES = {"bf16": "bfloat16", "fp16": "float16"}


class Sixteen:
    """16-bit weights: the reference of the table."""

    engine: EngineName = "transformers"
    bits = 16.0
    needs_calibration = False
    no_speed = ""

    def __init__(self, options: PluginOptions) -> None:
        self.dtype = DTYPES[options.name]

    def check(self, folder: Path, shapes: WeightShapes) -> None:
        """Any model and any machine will do."""

    def predicted_bytes(self, shapes: WeightShapes) -> int:
        """Two bytes a weight."""
        return safetensors_bytes(sixteen_bits({**shapes.linears, **shapes.rest}))

    def write(
        self, model: Any, tokenizer_folder: Path, target: Path, *, calibration: Sequence[Example]
    ) -> dict[str, Any]:
        """Writes `model` in 16 bits."""
        wanted = getattr(torch, self.dtype)
        save_model(model.to(wanted), target, tokenizer_from=tokenizer_folder)
        return {"dtype": self.dtype}
