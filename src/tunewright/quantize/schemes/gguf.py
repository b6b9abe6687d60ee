"""GGUF for llama.cpp: Q8_0 and Q4_0 (blocks of 32 weights) and the mixture Q4_K_M (blocks of 256)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gguf import GGML_QUANT_SIZES, MODEL_ARCH, get_tensor_name_map
from transformers import AutoConfig

from tunewright.core.registry import PluginOptions
from tunewright.models.save import link_tokenizer
from tunewright.models.tokens import Example
from tunewright.quantize import ggml, llama_server
from tunewright.quantize.gguf_file import check_architecture, write_gguf
from tunewright.quantize.gguf_tokenizer import read_tokenizer
from tunewright.quantize.gguf_types import MIXTURES, Q4_K_M, Layout, tensor_type
from tunewright.quantize.scheme import EngineName
from tunewright.quantize.shapes import WeightShapes

NAMES = {"gguf-q8_0": "Q8_0", "gguf-q4_0": "Q4_0", "gguf-q4_k_m": Q4_K_M}
FILE = "model.gguf"
BYTES_OF_A_TOKEN = 36
"""What the header spends on one token and its merge, about."""


class Gguf:
    """Needs no calibration. The tokenizer files lie beside the GGUF file, which also holds the tokenizer."""

    engine: EngineName = "llama.cpp"
    dtype = "float32"
    needs_calibration = False
    no_speed = ""

    def __init__(self, options: PluginOptions) -> None:
        self.mixture = NAMES[options.name]
        block, size = GGML_QUANT_SIZES[MIXTURES[self.mixture]]
        self.bits = 8 * size / block

    def check(self, folder: Path, shapes: WeightShapes) -> None:
        """Raises QuantizeError for another architecture or an unknown tokenizer, MissingExtraError without llama.cpp
        or, for Q4_K_M, without its quantizer."""
        if self.mixture == Q4_K_M:
            ggml.check_k_quants()
        llama_server.check_present()
        check_architecture(AutoConfig.from_pretrained(str(folder), local_files_only=True))
        read_tokenizer(folder, vocabulary=shapes.vocabulary)

    def predicted_bytes(self, shapes: WeightShapes) -> int:
        """Whole blocks of every matrix, four bytes a norm weight, and the tokenizer."""
        names = get_tensor_name_map(MODEL_ARCH.LLAMA, shapes.layers)
        layout, total = Layout(self.mixture, shapes.layers, shapes.tied), 0.0
        for key, shape in {**shapes.linears, **shapes.rest}.items():
            name = names.get_name(key, try_suffixes=(".weight", ".bias")) or key
            block, size = GGML_QUANT_SIZES[tensor_type(name, shape, layout)]
            total += math.prod(shape) * size / block
        return int(total) + BYTES_OF_A_TOKEN * shapes.vocabulary

    def write(
        self, model: Any, tokenizer_folder: Path, target: Path, *, calibration: Sequence[Example]
    ) -> dict[str, Any]:
        """Writes `model.gguf`. Raises QuantizeError for another architecture or an unknown tokenizer."""
        check_architecture(model.config)
        tokenizer = read_tokenizer(tokenizer_folder, vocabulary=model.config.vocab_size)
        tied = bool(model.config.tie_word_embeddings)
        layout = Layout(self.mixture, int(model.config.num_hidden_layers), tied)
        write_gguf(model, tokenizer, tokenizer_folder, target / FILE, layout=layout, name=tokenizer_folder.name)
        link_tokenizer(tokenizer_folder, target)
        return {"pre_tokenizer": tokenizer.pre}
