"""INT4 weights in groups, rounded column by column so that later columns make up for earlier errors (Frantar et al.
2022, arXiv 2210.17323)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunewright.models.quiet import import_quietly
from tunewright.models.tokens import Example
from tunewright.quantize.compressor import calibration_batches, compress, no_pinning
from tunewright.quantize.config import GptqOptions
from tunewright.quantize.scheme import UNPACKS, EngineName, head_name, inner_linears
from tunewright.quantize.schemes import groups
from tunewright.quantize.shapes import WeightShapes

import_quietly("llmcompressor")


class Gptq:
    """GPTQModifier sums over every position it sees, padding too, so each calibration row is a batch of its own."""

    engine: EngineName = "transformers"
    dtype = "bfloat16"
    needs_calibration = True
    no_speed = f"{UNPACKS}; engines with INT4 kernels (vLLM) gain"

    def __init__(self, options: GptqOptions) -> None:
        self.options = options
        self.bits = float(options.bits)

    def check(self, folder: Path, shapes: WeightShapes) -> None:
        """Raises QuantizeError when no group size divides the layer widths."""
        groups.group_size(self.options, shapes.widths)

    def predicted_bytes(self, shapes: WeightShapes) -> int:
        """As `groups.grouped_bytes`."""
        return groups.grouped_bytes(self.options, shapes)

    def write(
        self, model: Any, tokenizer_folder: Path, target: Path, *, calibration: Sequence[Example]
    ) -> dict[str, Any]:
        """Writes compressed-tensors "pack-quantized". Raises QuantizeError without calibration rows."""
        groups.need_rows(self.options.name, calibration)
        from llmcompressor.modifiers.gptq import GPTQModifier

        size = groups.group_size(self.options, [layer.in_features for layer in inner_linears(model).values()])
        recipe = GPTQModifier(
            config_groups={"group_0": groups.grouped_scheme(self.options, size)},
            ignore=[head_name(model)],
            dampening_frac=self.options.dampening,
        )
        _name_log_level()
        with no_pinning():
            batches = calibration_batches(calibration, max_tokens=1)
            compress(model, [recipe], folder=tokenizer_folder, target=target, batches=batches)
        return groups.calibration_facts(size, calibration)


def _name_log_level() -> None:
    """GPTQModifier logs at a level that llm-compressor names only where its log is on; below ERROR it is not shown."""
    from loguru import logger

    try:
        logger.level("METRIC")
    except ValueError:
        logger.level("METRIC", no=38)
