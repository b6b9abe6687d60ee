"""INT4 weights in groups, scaled by activations before they are rounded (Lin et al. 2023, arXiv 2306.00978)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from tunewright.core.events import Progress
from tunewright.models.quiet import import_quietly, replaced
from tunewright.models.tokens import Example
from tunewright.quantize.compressor import calibration_batches, compress
from tunewright.quantize.config import AwqOptions
from tunewright.quantize.scheme import (
    EngineName,
    QuantizeError,
    group_size_for,
    head_name,
    inner_linears,
    weight_counts,
)

import_quietly("llmcompressor")


class Awq:
    """AWQModifier only scales (llm-compressor 0.14); the QuantizationModifier behind it rounds."""

    engine: EngineName = "transformers"
    dtype = "bfloat16"
    needs_calibration = True

    def __init__(self, options: AwqOptions) -> None:
        self.options = options
        self.bits = float(options.bits)

    def predicted_bytes(self, model: Any) -> int:
        """Half a byte a weight, 2 bytes a group for its scale and half a byte for its zero; the rest in 16 bits."""
        linears, rest = weight_counts(model)
        group = 2.0 if self.options.symmetric else 2.5
        return int(linears * (self.options.bits / 8 + group / self.group_size(model))) + 2 * rest

    def group_size(self, model: Any) -> int:
        """The group size that fits every layer of `model`."""
        widths = [layer.in_features for layer in inner_linears(model).values()]
        return group_size_for(widths, self.options.group_size)

    def write(
        self, model: Any, tokenizer_folder: Path, target: Path, *, calibration: Sequence[Example]
    ) -> dict[str, Any]:
        """Writes compressed-tensors "pack-quantized". Raises QuantizeError without calibration rows."""
        if not calibration:
            raise QuantizeError("awq needs calibration rows", where="train.jsonl", fix="check the data stage's splits")
        from llmcompressor.modifiers.transform.awq import AWQModifier

        size = self.group_size(model)
        recipe = [AWQModifier(n_grid=self.options.grid), self._rounding(size, head_name(model))]
        steps = 3 * int(model.config.num_hidden_layers) * self.options.grid
        with _grid_progress(steps), _no_pinning():
            compress(model, recipe, folder=tokenizer_folder, target=target, batches=calibration_batches(calibration))
        tokens = sum(len(example.input_ids) for example in calibration)
        return {"group_size": size, "calibration_rows": len(calibration), "calibration_tokens": tokens}

    def _rounding(self, size: int, head: str) -> Any:
        from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
        from llmcompressor.modifiers.quantization import QuantizationModifier

        weights = QuantizationArgs(
            num_bits=self.options.bits, symmetric=self.options.symmetric, strategy="group", group_size=size
        )
        groups = {"group_0": QuantizationScheme(targets=["Linear"], weights=weights)}
        return QuantizationModifier(config_groups=groups, ignore=[head])


@contextmanager
def _no_pinning() -> Iterator[None]:
    """AWQModifier pins memory for GPU copies without asking for a GPU, and a CPU-only torch refuses."""
    from llmcompressor.pipelines.cache import IntermediatesCache

    if torch.cuda.is_available():
        yield
        return
    with replaced(IntermediatesCache, "pin_memory", lambda *_: None):
        yield


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
