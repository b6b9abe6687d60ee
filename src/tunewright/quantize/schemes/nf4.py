"""NF4 of bitsandbytes with double quantization (Dettmers et al. 2023, arXiv 2305.14314).

bitsandbytes rounds while it loads; the folder stores what it made, so that it is rounded once and loads anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import BitsAndBytesConfig

from tunewright.core import files
from tunewright.core.registry import PluginOptions
from tunewright.models.quiet import import_quietly, quiet
from tunewright.models.save import link_tokenizer
from tunewright.models.tokens import Example
from tunewright.quantize.scheme import EngineName, QuantizeError
from tunewright.quantize.shapes import WeightShapes, safetensors_bytes, sixteen_bits

import_quietly("bitsandbytes")

BLOCK = 64
"""Weights that share a scale."""
SCALES = 256
"""Scales that share a scale of theirs."""
STATE = 169
"""Bytes of bitsandbytes' own note on a layer, about."""


class Nf4:
    """Sixteen levels at the quantiles of a normal distribution; needs no calibration."""

    engine: EngineName = "transformers"
    dtype = "bfloat16"
    needs_calibration = False
    no_speed = "bitsandbytes unpacks 4-bit weights at every multiplication"

    def __init__(self, options: PluginOptions) -> None:
        self.bits = 4 + 8 / BLOCK + 32 / (BLOCK * SCALES)

    def check(self, folder: Path, shapes: WeightShapes) -> None:
        """Raises QuantizeError where bitsandbytes has no 4-bit kernels for this machine."""
        from bitsandbytes.functional import dequantize_4bit, quantize_4bit

        place = "cuda" if torch.cuda.is_available() else "cpu"
        weight = torch.linspace(-1, 1, BLOCK * 2, device=place)
        try:
            packed, state = quantize_4bit(weight, quant_type="nf4")
            back = dequantize_4bit(packed, state)
        except (RuntimeError, NotImplementedError, AttributeError) as error:
            raise QuantizeError(
                f"bitsandbytes cannot work in 4 bits on this machine: {error}",
                where="quantize.variants: nf4",
                fix="leave nf4 out of quantize.variants; awq and gguf-q4_0 need no bitsandbytes",
            ) from error
        assert float((back - weight).abs().max()) < 0.2, back

    def predicted_bytes(self, shapes: WeightShapes) -> int:
        """Half a byte a weight, a byte a block of 64, four a block of 256 of those, and two tables a layer; the rest
        in 16 bits."""
        tensors = sixteen_bits(shapes.rest)
        for name, (rows, width) in shapes.linears.items():
            scales = -(-rows * width // BLOCK)
            tensors += [
                (name, rows * width / 2),
                (f"{name}.absmax", float(scales)),
                (f"{name}.nested_absmax", 4.0 * -(-scales // SCALES)),
                (f"{name}.nested_quant_map", 4.0 * SCALES),
                (f"{name}.quant_map", 4.0 * 16),
                (f"{name}.quant_state.bitsandbytes__nf4", float(STATE)),
            ]
        return safetensors_bytes(tensors)

    def write(
        self, model: Any, tokenizer_folder: Path, target: Path, *, calibration: Sequence[Example]
    ) -> dict[str, Any]:
        """Writes transformers' folder of a bitsandbytes model."""
        config = model.config
        state = {name: tensor.to(torch.bfloat16) for name, tensor in model.state_dict().items()}
        with quiet(), files.disk_errors(target):
            rounded = type(model).from_pretrained(
                None,
                config=config,
                state_dict=state,
                dtype=torch.bfloat16,
                quantization_config=_settings(),
                device_map={"": "cuda:0" if torch.cuda.is_available() else "cpu"},
            )
            rounded.save_pretrained(str(target))
        link_tokenizer(tokenizer_folder, target)
        return {"block": BLOCK}


def _settings() -> Any:
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
