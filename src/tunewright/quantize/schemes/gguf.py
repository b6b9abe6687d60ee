"""GGUF Q8_0 and Q4_0 for llama.cpp, written with the `gguf` package: blocks of 32 weights with a float16 scale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from tunewright.core.registry import PluginOptions
from tunewright.models.save import link_tokenizer
from tunewright.models.tokens import Example
from tunewright.quantize.gguf_file import check_architecture, tensor_type, write_gguf
from tunewright.quantize.gguf_tokenizer import read_tokenizer
from tunewright.quantize.scheme import EngineName

KINDS = {"gguf-q8_0": GGMLQuantizationType.Q8_0, "gguf-q4_0": GGMLQuantizationType.Q4_0}
FILE = "model.gguf"


class Gguf:
    """Needs no calibration. The tokenizer files lie beside the GGUF file, which also holds the tokenizer."""

    engine: EngineName = "llama.cpp"
    dtype = "float32"
    needs_calibration = False

    def __init__(self, options: PluginOptions) -> None:
        self.kind = KINDS[options.name]
        block, size = GGML_QUANT_SIZES[self.kind]
        self.bits = 8 * size / block

    def predicted_bytes(self, model: Any) -> int:
        """Whole blocks of every matrix, four bytes a norm weight, and the tokenizer."""
        total = 0.0
        for key, parameter in model.named_parameters():
            name = "token_embd.weight" if "embed_tokens" in key or "lm_head" in key else key
            block, size = GGML_QUANT_SIZES[tensor_type(name, parameter.ndim, self.kind)]
            total += parameter.numel() * size / block
        return int(total) + 40 * int(model.config.vocab_size)

    def write(
        self, model: Any, tokenizer_folder: Path, target: Path, *, calibration: Sequence[Example]
    ) -> dict[str, Any]:
        """Writes `model.gguf`. Raises QuantizeError for another architecture or an unknown tokenizer."""
        check_architecture(model.config)
        tokenizer = read_tokenizer(tokenizer_folder, vocabulary=model.config.vocab_size)
        name = tokenizer_folder.name
        write_gguf(model, tokenizer, tokenizer_folder, target / FILE, kind=self.kind, name=name)
        link_tokenizer(tokenizer_folder, target)
        return {"pre_tokenizer": tokenizer.pre}
