"""Building a variant on disk, and opening it again for its measurement: what counts was loaded back."""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tunewright.core import files
from tunewright.core.chat import Conversation
from tunewright.core.errors import TunewrightError
from tunewright.core.registry import PluginOptions
from tunewright.core.runs import Artifact
from tunewright.models.compressed import load_compressed
from tunewright.models.config import ModelInfo
from tunewright.models.load import for_inference, load_model
from tunewright.models.tokens import IGNORED, ChatTokenizer, Example
from tunewright.models.tuned import INFO, WEIGHTS, model_info
from tunewright.quantize.config import SCHEMES
from tunewright.quantize.engines import LlamaCppEngine, TransformersEngine
from tunewright.quantize.gguf_file import dequantized
from tunewright.quantize.measure import DEQUANTIZED, Result, Task, measure, weight_bytes
from tunewright.quantize.scheme import QuantizeError, Scheme
from tunewright.quantize.schemes.gguf import FILE
from tunewright.quantize.schemes.sixteen import DTYPES

IN_MEMORY = "bf16"
"""The reference that is measured where the project file lists no 16-bit variant."""


def scheme_of(options: PluginOptions) -> Scheme:
    """The scheme that `options` names."""
    scheme: Scheme = SCHEMES.target(options.name)(options)
    return scheme


def reference_name(variants: Sequence[PluginOptions]) -> str:
    """The first 16-bit variant, else bf16."""
    return next((options.name for options in variants if options.name in DTYPES), IN_MEMORY)


@torch.no_grad()
def round_to_16_bits(model: Any, scheme: str) -> Any:
    """Rounds the weights of `model`, in place, to what the 16-bit reference stores; all variants start from there."""
    wanted = getattr(torch, DTYPES[scheme])
    if model.dtype == torch.float32:
        for parameter in model.parameters():
            parameter.copy_(parameter.to(wanted))
    return model


def calibration_examples(
    training: Sequence[Conversation], tokenizer: ChatTokenizer, *, rows: int, tokens: int, seed: int
) -> list[Example]:
    """Up to `rows` rendered rows of the training split, drawn with `seed`, each cut to `tokens` tokens."""
    drawn = random.Random(seed).sample(range(len(training)), min(rows, len(training)))  # noqa: S311 (no secret)
    found = []
    for index in drawn:
        row = training[index]
        ids = tuple(tokenizer.messages_ids(row.messages)[:tokens])
        found.append(Example(ids, (IGNORED, *ids[1:]), row.id))
    return found


def build(
    scheme: Scheme, name: str, model: Any, *, folder: Path, target: Path, train: Artifact, calibration: list[Example]
) -> dict[str, Any]:
    """Writes the variant `name` to the new folder `target`; a failure leaves nothing there.

    Weights that train already stored in this format are linked. Raises QuantizeError with one sentence.
    """
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        facts = _link_unchanged(scheme, train, temporary)
        if not facts:
            facts = scheme.write(model, folder, temporary, calibration=calibration)
        files.write_json(temporary / INFO, _info(scheme, train, temporary).model_dump(mode="json"))
        temporary.replace(target)
        return facts
    except (TunewrightError, OSError):
        raise
    except Exception as error:  # the libraries' faults come as every class there is
        line = next(iter(str(error).splitlines()), "")
        raise QuantizeError(
            f"the variant {name} could not be built: {type(error).__name__}: {line}",
            where="quantize.variants",
            fix=f"leave {name} out of quantize.variants, or see the whole fault with --debug",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _link_unchanged(scheme: Scheme, train: Artifact, target: Path) -> dict[str, Any]:
    """Hard-links fully trained weights that already are this variant; {} where they are not."""
    if scheme.bits != 16 or model_info(train).kind != "full":
        return {}
    stored = train.folder(WEIGHTS)
    if _config_dtype(stored) != scheme.dtype:
        return {}
    files.link_tree(stored, target)
    return {"linked": True}


def _config_dtype(folder: Path) -> str:
    path = folder / "config.json"
    if not path.exists():
        return ""
    config = json.loads(path.read_text(encoding="utf-8"))
    return str(config.get("dtype") or config.get("torch_dtype") or "")


def _info(scheme: Scheme, train: Artifact, folder: Path) -> ModelInfo:
    kind = "merged" if scheme.bits == 16 else "quantized"
    dtype = _config_dtype(folder) or scheme.dtype
    return model_info(train).model_copy(update={"kind": kind, "dtype": dtype, "bits": scheme.bits})


def measure_in_memory(task: Task, model: Any, tokenizer: ChatTokenizer) -> Result:
    """The 16-bit reference where it is not stored. `model` is not changed."""
    ready = for_inference(copy.deepcopy(model))
    engine = TransformersEngine(ready, tokenizer, batch_size=task.exam.batch_size)
    size = 2 * sum(parameter.numel() for parameter in model.parameters())
    return measure(task, engine, size=size, perplexity_model=ready, perplexity_engine=engine.name)


def measure_folder(task: Task, scheme: Scheme, folder: Path, *, model: Any, tokenizer: ChatTokenizer) -> Result:
    """Opens the variant in `folder` in its engine and measures it. `model`: the 16-bit model, not changed."""
    size = weight_bytes(folder)
    if scheme.engine == "llama.cpp":
        llama = LlamaCppEngine(folder / FILE, tokenizer, context=task.context)
        try:
            stored = for_inference(dequantized(folder / FILE, model))
            return measure(task, llama, size=size, perplexity_model=stored, perplexity_engine=DEQUANTIZED)
        finally:
            llama.close()
    opened = open_folder(scheme, folder, runtime=model.dtype)
    engine = TransformersEngine(opened, tokenizer, batch_size=task.exam.batch_size)
    try:
        return measure(task, engine, size=size, perplexity_model=opened, perplexity_engine=engine.name)
    finally:
        engine.close()


def open_folder(scheme: Scheme, folder: Path, *, runtime: torch.dtype) -> Any:
    """The variant in `folder` in transformers, ready to generate. runtime: float32 where the CPU wants it, else the
    variant's own 16-bit format is used."""
    dtype = runtime if runtime == torch.float32 else getattr(torch, _config_dtype(folder))
    if scheme.bits == 16:
        return for_inference(load_model(folder, dtype=dtype))
    return load_compressed(folder, dtype=dtype)
