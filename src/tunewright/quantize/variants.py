"""Building a variant on disk, and opening it again for its measurement: what counts was loaded back."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from dataclasses import replace
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
from tunewright.quantize.engines import Engine, LlamaCppEngine, TransformersEngine
from tunewright.quantize.gguf_file import fill_from
from tunewright.quantize.loaded import Probe, TunedModel
from tunewright.quantize.measure import Result, Task, measure, weight_bytes
from tunewright.quantize.scheme import QuantizeError, Scheme
from tunewright.quantize.schemes.gguf import FILE
from tunewright.quantize.schemes.sixteen import DTYPES
from tunewright.quantize.shapes import WeightShapes, planned_shapes

IN_MEMORY = "bf16"
"""The reference that is measured where the project file lists no 16-bit variant."""


def scheme_of(options: PluginOptions) -> Scheme:
    """The scheme that `options` names."""
    scheme: Scheme = SCHEMES.target(options.name)(options)
    return scheme


def reference_name(variants: Sequence[PluginOptions]) -> str:
    """The first 16-bit variant, else bf16."""
    return next((options.name for options in variants if options.name in DTYPES), IN_MEMORY)


def check_all(variants: Sequence[PluginOptions], folder: Path, *, trust_remote_code: bool = False) -> WeightShapes:
    """The shapes of the base model in `folder`. Raises what any variant would fail with: a missing library or program,
    an architecture or a width that its format does not have. Reads no weights."""
    shapes = planned_shapes(folder, trust_remote_code=trust_remote_code)
    for options in variants:
        scheme_of(options).check(folder, shapes)
    return shapes


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


def build(scheme: Scheme, name: str, tuned: TunedModel, *, target: Path, calibration: list[Example]) -> dict[str, Any]:
    """Writes the variant `name` to the new folder `target`; a failure leaves nothing there.

    Weights that train already stored in this format are linked. Raises QuantizeError with one sentence.
    """
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        facts = _link_unchanged(scheme, tuned.train, temporary)
        if not facts:
            facts = scheme.write(tuned.open(), tuned.base, temporary, calibration=calibration)
        files.write_json(temporary / INFO, _info(scheme, tuned.train, temporary).model_dump(mode="json"))
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


def measure_in_memory(task: Task, tuned: TunedModel, tokenizer: ChatTokenizer, probe: Probe) -> Result:
    """The 16-bit reference where it is not stored."""
    size = 0

    def opened() -> Engine:
        nonlocal size
        model = tuned.open()
        size = 2 * sum(parameter.numel() for parameter in model.parameters())
        return TransformersEngine(for_inference(model), tokenizer, batch_size=task.exam.batch_size)

    result = measure(task, opened, size=size, text_model=_model_of, prove=probe.error)
    return replace(result, bytes=size)


def measure_folder(
    task: Task, scheme: Scheme, folder: Path, *, tuned: TunedModel, tokenizer: ChatTokenizer, probe: Probe
) -> Result:
    """Opens the variant in `folder` in its engine, measures it and proves that it is the tuned model."""
    size = weight_bytes(folder)

    def prove(model: Any) -> float:
        return probe.prove(model, name=folder.name, bits=scheme.bits, where=folder)

    def llama() -> Engine:
        return LlamaCppEngine(folder / FILE, tokenizer, context=task.context)

    def stored(engine: Engine) -> Any:
        engine.close()
        return for_inference(fill_from(folder / FILE, tuned.open()))

    def plain() -> Engine:
        model = open_folder(scheme, folder, runtime=tuned.dtype)
        return TransformersEngine(model, tokenizer, batch_size=task.exam.batch_size)

    if scheme.engine == "llama.cpp":
        return measure(task, llama, size=size, text_model=stored, prove=prove)
    return measure(task, plain, size=size, text_model=_model_of, prove=prove)


def _model_of(engine: Engine) -> Any:
    assert isinstance(engine, TransformersEngine)
    return engine.model


def open_folder(scheme: Scheme, folder: Path, *, runtime: torch.dtype) -> Any:
    """The variant in `folder` in transformers, ready to generate. runtime: float32 where the CPU wants it, else the
    variant's own 16-bit format is used."""
    dtype = runtime if runtime == torch.float32 else getattr(torch, _config_dtype(folder))
    if scheme.bits == 16:
        return for_inference(load_model(folder, dtype=dtype))
    return load_compressed(folder, dtype=dtype)
