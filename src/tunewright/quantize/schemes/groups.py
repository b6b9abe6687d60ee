"""What AWQ and GPTQ share: INT4 weights in groups, each with a scale and, where asked for, a zero point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tunewright.models.tokens import Example
from tunewright.quantize.config import GroupedOptions
from tunewright.quantize.scheme import QuantizeError, group_size_for
from tunewright.quantize.shapes import WeightShapes, safetensors_bytes, sixteen_bits

PACKED = 8
"""4-bit values in one int32."""


def group_size(options: GroupedOptions, widths: Sequence[int]) -> int:
    """The group size that fits every layer. Raises QuantizeError when there is none."""
    return group_size_for(widths, options.group_size, scheme=options.name)


def grouped_bytes(options: GroupedOptions, shapes: WeightShapes) -> int:
    """compressed-tensors "pack-quantized": half a byte a weight, two a group for its scale, half a byte for its zero
    (eight rows in an int32); the rest in 16 bits."""
    size, tensors = group_size(options, shapes.widths), sixteen_bits(shapes.rest)
    for name, (rows, width) in shapes.linears.items():
        groups = width // size
        tensors += [(f"{name}_packed", rows * width / 2), (f"{name}_scale", 2.0 * rows * groups)]
        tensors += [(f"{name}_shape", 16.0)]
        if not options.symmetric:
            tensors += [(f"{name}_zero_point", 4.0 * -(-rows // PACKED) * groups)]
    return safetensors_bytes(tensors)


def grouped_scheme(options: GroupedOptions, size: int) -> Any:
    """llm-compressor's description of these weights, for every linear layer."""
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    weights = QuantizationArgs(num_bits=options.bits, symmetric=options.symmetric, strategy="group", group_size=size)
    return QuantizationScheme(targets=["Linear"], weights=weights)


def calibration_facts(size: int, calibration: Sequence[Example]) -> dict[str, Any]:
    """For the event log."""
    tokens = sum(len(example.input_ids) for example in calibration)
    return {"group_size": size, "calibration_rows": len(calibration), "calibration_tokens": tokens}


def need_rows(name: str, calibration: Sequence[Example]) -> None:
    """Raises QuantizeError where there is nothing to calibrate on."""
    if not calibration:
        raise QuantizeError(f"{name} needs calibration rows", where="train.jsonl", fix="check the data stage's splits")
