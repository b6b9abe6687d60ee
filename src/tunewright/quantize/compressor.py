"""llm-compressor, tamed: quiet, offline, and 16-bit wherever it does not quantize."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tunewright.core import files
from tunewright.models.load import load_tokenizer
from tunewright.models.quiet import quiet, replaced
from tunewright.models.save import link_tokenizer
from tunewright.models.tokens import Example

HALF = (torch.bfloat16, torch.float16)
BATCH_TOKENS = 1024
Batch = dict[str, torch.Tensor]


def compress(
    model: Any, recipe: list[Any], *, folder: Path, target: Path, batches: Sequence[Batch] | None = None
) -> None:
    """Applies `recipe` to `model` itself and writes it to `target` in compressed-tensors form.

    `folder`: the base model's; llm-compressor reads the config again from there, so no network is asked. `batches`:
    calibration input {"input_ids", "loss_mask"}, each [rows, width], in the order they are used.
    """
    from llmcompressor import create_session, oneshot
    from torch.utils.data import DataLoader

    model.config._name_or_path = str(folder)
    dataset: Any = DataLoader(list(batches), batch_size=None) if batches else None  # type: ignore[arg-type]
    with quiet(), create_session(), _traces_forgotten():
        oneshot(
            model=model,
            recipe=recipe,
            dataset=dataset,
            processor=load_tokenizer(folder),
            use_loss_mask=batches is not None,
            shuffle_calibration_samples=False,
        )
        round_scales(model)
        with files.disk_errors(target):
            model.save_pretrained(str(target), save_compressed=True)
    store_rest_in_16_bits(target)
    (target / "recipe.yaml").unlink(missing_ok=True)
    link_tokenizer(folder, target)


@contextmanager
def _traces_forgotten() -> Iterator[None]:
    """torch.fx keeps the names of every function it wrapped for good, and with them the model that was traced."""
    from torch.fx import _symbolic_trace

    kept: dict[Any, Any] = _symbolic_trace._wrapped_fns_to_patch
    before = set(kept)
    try:
        yield
    finally:
        for key in set(kept) - before:
            del kept[key]


@contextmanager
def no_pinning() -> Iterator[None]:
    """Calibration pins memory for GPU copies without asking for a GPU, and a CPU-only torch refuses."""
    from llmcompressor.pipelines.cache import IntermediatesCache

    if torch.cuda.is_available():
        yield
        return
    with replaced(IntermediatesCache, "pin_memory", lambda *_: None):
        yield


def round_scales(model: Any) -> None:
    """Rounds scales to bfloat16 before the integers are chosen, so that storing them in 16 bits loses nothing."""
    for module in model.modules():
        scale = getattr(module, "weight_scale", None)
        if scale is not None and scale.dtype not in HALF:
            scale.data.copy_(scale.data.to(torch.bfloat16))


def store_rest_in_16_bits(target: Path) -> None:
    """On a CPU without bfloat16 the work is done in float32; the files hold scales, norms and embeddings in 16."""
    for path in sorted(target.glob("*.safetensors")):
        tensors = load_file(path)
        if any(tensor.dtype == torch.float32 for tensor in tensors.values()):
            halves = {
                name: tensor.to(torch.bfloat16) if tensor.dtype == torch.float32 else tensor
                for name, tensor in tensors.items()
            }
            with files.disk_errors(path):
                save_file(halves, path, metadata={"format": "pt"})
        path.chmod(0o644)
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    if config.get("dtype") == "float32":
        files.write_json(target / "config.json", config | {"dtype": "bfloat16"})


def calibration_batches(examples: Sequence[Example], *, max_tokens: int = BATCH_TOKENS) -> list[Batch]:
    """Rows of similar length together, padded on the right; `loss_mask` keeps the padding out of every statistic.

    Causal attention makes the padding invisible to the tokens before it. A batch has at most `max_tokens` places.
    """
    batches: list[list[Example]] = []
    for example in sorted(examples, key=lambda example: len(example.input_ids)):
        if batches and len(example.input_ids) * (len(batches[-1]) + 1) <= max_tokens:
            batches[-1].append(example)
        else:
            batches.append([example])
    return [_padded(batch) for batch in batches]


def _padded(examples: Sequence[Example]) -> Batch:
    width = max(len(example.input_ids) for example in examples)
    ids = torch.zeros(len(examples), width, dtype=torch.long)
    mask = torch.zeros(len(examples), width, dtype=torch.long)
    for row, example in enumerate(examples):
        ids[row, : len(example.input_ids)] = torch.tensor(example.input_ids)
        mask[row, : len(example.input_ids)] = 1
    return {"input_ids": ids, "loss_mask": mask}
