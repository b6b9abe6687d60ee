"""Compressed-tensors folders in transformers: loaded back, dequantized once, and as fast as that allows.

transformers has no integer kernels on the CPU: it multiplies dequantized weights. What the format does to the numbers
is kept exactly: rounded weights, and for W8A8 activations rounded to 8 bits a token.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tunewright.models.load import for_inference, load_model
from tunewright.models.quiet import import_quietly, quiet

INT8_STEPS = 127.5
"""compressed-tensors spreads the largest value of a token over half of its 255 steps."""


class RoundedInput(nn.Module):
    """A linear layer whose input is first rounded to 8 bits with one scale a token. x: [batch, tokens, in]."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(round_input(x))
        return y


def round_input(x: Tensor) -> Tensor:
    """x rounded to int8 levels along its last dimension and back: what compressed-tensors computes for W8A8."""
    scale = x.abs().amax(-1, keepdim=True) / INT8_STEPS
    scale = torch.where(scale == 0, torch.finfo(x.dtype).eps, scale)
    return (x / scale).round().clamp(-128, 127) * scale


def load_compressed(folder: Path, *, dtype: torch.dtype, pack: bool = True) -> Any:
    """The model in `folder` with plain linear layers, ready to generate.

    pack=False keeps compressed-tensors' own modules (slower, same numbers: tests/quantize/test_quantize_schemes.py).
    """
    import_quietly("compressed_tensors")
    with quiet():
        model = load_model(folder, dtype=dtype)
        with torch.inference_mode():
            model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=model.device))  # dequantizes
    if pack:
        _plain_layers(model)
        return for_inference(model)
    return model


def _plain_layers(model: Any) -> None:
    """Takes compressed-tensors' wrapped forward off every linear layer; rounding of inputs becomes a layer."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            scheme = getattr(child, "quantization_scheme", None)
            if isinstance(child, nn.Linear) and scheme is not None:
                vars(child).pop("forward", None)
                if scheme.input_activations is not None:
                    setattr(module, name, RoundedInput(child))
