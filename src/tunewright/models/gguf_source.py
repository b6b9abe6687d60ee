"""GGUF files as a source: dequantized once, through transformers' GGUF support, into a safetensors folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from tunewright.core import files
from tunewright.core.errors import ArtifactError
from tunewright.core.events import say

_FORMAT = 1
"""Raised when the conversion changes, so that older caches are not used."""


def place_of(gguf: Path, cache: Path) -> Path:
    """Where the folder made from `gguf` is, or will be."""
    return cache / f"gguf-{files.sha256(gguf)[:24]}-{_FORMAT}"


def is_converted(target: Path) -> bool:
    """Whether the folder is there and whole."""
    return (target / "source.json").exists()


def converted(gguf: Path, cache: Path) -> Path:
    """The safetensors folder made from `gguf`, named by the file's hash; made on first use.

    Raises ArtifactError when the file is no GGUF of a supported architecture.
    """
    target = place_of(gguf, cache)
    if is_converted(target):
        return target
    say(f"reading {gguf.name} once into {target} (about half a minute)")
    temporary = target.with_name(f"{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    with files.disk_errors(target):
        temporary.mkdir(parents=True)
        try:
            _convert(gguf, temporary)
        except (ValueError, KeyError, NotImplementedError, OSError) as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if isinstance(error, OSError) and error.errno:
                raise
            raise ArtifactError(f"this GGUF file cannot be read: {error}", where=str(gguf)) from None
        files.write_json(temporary / "source.json", {"gguf_sha256": files.sha256(gguf), "name": gguf.name})
        try:
            temporary.replace(target)
        except OSError:  # another process was first
            shutil.rmtree(temporary, ignore_errors=True)
    return target


def _convert(gguf: Path, target: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tunewright.models.proof import prove_complete

    place, name = str(gguf.parent), gguf.name
    with _read_once():
        made = AutoModelForCausalLM.from_pretrained(
            place, gguf_file=name, dtype=_own_format(gguf), output_loading_info=True
        )
        tokenizer: Any = AutoTokenizer.from_pretrained(place, gguf_file=name)
    model: Any = made[0]
    prove_complete(made[1], str(gguf))
    _forget_quantization(model)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    _correct_special_tokens(target, model.config)


def _own_format(path: Path) -> Any:
    """The torch format of the folder: fp32 or fp16 where all matrices are stored so, which is exact; else bf16, which
    rounds quantized weights by less than their own step."""
    import gguf
    import torch

    kinds = {str(tensor.tensor_type.name) for tensor in gguf.GGUFReader(str(path)).tensors if len(tensor.shape) > 1}
    return {frozenset({"F32"}): torch.float32, frozenset({"F16"}): torch.float16}.get(frozenset(kinds), torch.bfloat16)


def _forget_quantization(model: Any) -> None:
    """transformers keeps the GGUF `quantization_config` and then refuses to save; the weights are plain by now."""
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    model.is_quantized = False
    model.__dict__.pop("quantization_method", None)


def _correct_special_tokens(target: Path, config: Any) -> None:
    """transformers 5.17 names the BOS as EOS for this kind of file; the model's own ids are right."""
    path = target / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = json.loads((target / "tokenizer.json").read_text(encoding="utf-8"))
    text_of = {token["id"]: token["content"] for token in vocabulary["added_tokens"]}
    text_of |= {index: token for token, index in vocabulary["model"]["vocab"].items() if index not in text_of}
    for name in ("bos_token", "eos_token", "pad_token"):
        index = getattr(config, f"{name}_id", None)
        if isinstance(index, int) and index in text_of:
            settings[name] = text_of[index]
        settings.pop(f"{name}_id", None)
    settings["model_max_length"] = config.max_position_embeddings
    settings["clean_up_tokenization_spaces"] = False
    files.write_json(path, settings)


@contextmanager
def _read_once() -> Iterator[None]:
    """transformers parses the file once for each of config, weights and tokenizer (5 s each); share one reader."""
    import gguf

    original = gguf.GGUFReader
    gguf.GGUFReader = lru_cache(maxsize=1)(lambda path, *rest: original(path, *rest))
    try:
        yield
    finally:
        gguf.GGUFReader = original
