"""INT4 weights in groups, scaled by activations before they are rounded (Lin et al. 2023, arXiv 2306.00978)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tunewright.core.events import Progress
from tunewright.models.quiet import import_quietly, replaced
from tunewright.models.tokens import Example
from tunewright.quantize.compressor import calibration_batches, compress, no_pinning
from tunewright.quantize.config import AwqOptions
from tunewright.quantize.scheme import UNPACKS, EngineName, head_name, inner_linears
from tunewright.quantize.schemes import groups
from tunewright.quantize.shapes import WeightShapes

import_quietly("llmcompressor")


class Awq:
    """AWQModifier only scales (llm-compressor 0.14); the QuantizationModifier behind it rounds."""

    engine: EngineName = "transformers"
    dtype = "bfloat16"
    needs_calibration = True
    no_speed = f"{UNPACKS}; engines with INT4 kernels (vLLM) gain"

    def __init__(self, options: AwqOptions) -> None:
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
        from llmcompressor.modifiers.quantization import QuantizationModifier
        from llmcompressor.modifiers.transform.awq import AWQModifier

        size = groups.group_size(self.options, [layer.in_features for layer in inner_linears(model).values()])
        described = {"group_0": groups.grouped_scheme(self.options, size)}
        rounding = QuantizationModifier(config_groups=described, ignore=[head_name(model)])
        steps = 3 * int(model.config.num_hidden_layers) * self.options.grid
        with _grid_progress(steps), no_pinning():
            batches = calibration_batches(calibration)
            recipe = [AWQModifier(n_grid=self.options.grid), rounding]
            compress(model, recipe, folder=tokenizer_folder, target=target, batches=batches)
        return groups.calibration_facts(size, calibration)


class _Bar:
    """Stands in for tqdm inside AWQModifier: its grid search, hundreds of short bars, becomes one count."""

    def __init__(self, items: Iterable[Any], progress: Progress | None) -> None:
        self.items, self.progress = items, progress

    def __iter__(self) -> Iterator[Any]:
        for item in self.items:
            yield item
            if self.progress:
                self.progress.advance()

    def set_postfix(self, *_: object) -> None:
        """tqdm's method; the error of the best scale is not shown."""


@contextmanager
def _grid_progress(total: int) -> Iterator[None]:
    from llmcompressor.modifiers.transform.awq import base

    with Progress("awq: searching scales", total) as progress:

        def bar(items: Iterable[Any], desc: str = "", **_: object) -> _Bar:
            return _Bar(items, progress if desc.startswith("Grid search") else None)

        with replaced(base, "tqdm", bar):
            yield
