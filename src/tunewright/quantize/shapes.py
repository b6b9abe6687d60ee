"""Shapes of a model's weights: what the size of every variant is predicted from, before any weight is read."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

HEADER_OF_A_TENSOR = 80
"""Bytes that a safetensors header spends on one tensor beside its name: dtype, shape, offsets, braces."""


@dataclass(frozen=True)
class WeightShapes:
    """linears: name of each linear layer but the head -> (out, in); rest: name of every other parameter -> shape,
    tied ones once; layers, vocabulary: counts; tied: whether the head is the embedding."""

    linears: dict[str, tuple[int, int]]
    rest: dict[str, tuple[int, ...]]
    layers: int
    vocabulary: int
    tied: bool

    @property
    def weights(self) -> int:
        """Number of all weights."""
        return sum(map(math.prod, (*self.linears.values(), *self.rest.values())))

    @property
    def widths(self) -> list[int]:
        """Input width of each linear layer."""
        return [width for _, width in self.linears.values()]


def shapes_of(model: Any) -> WeightShapes:
    """The shapes of a model in memory (or on torch's meta device)."""
    head = model.get_output_embeddings()
    linears = {
        f"{name}.weight": (module.out_features, module.in_features)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    }
    named = dict(model.named_parameters())
    return WeightShapes(
        linears=linears,
        rest={name: tuple(parameter.shape) for name, parameter in named.items() if name not in linears},
        layers=int(model.config.num_hidden_layers),
        vocabulary=int(model.config.vocab_size),
        tied=head is None or head.weight is model.get_input_embeddings().weight,
    )


def planned_shapes(folder: Path, *, trust_remote_code: bool = False) -> WeightShapes:
    """The shapes of the model in `folder` from its config alone; no weight is read."""
    config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=trust_remote_code)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
        model.tie_weights()
    return shapes_of(model)


def llama_shapes(
    *, hidden: int, intermediate: int, layers: int, vocabulary: int, tied: bool, key_values: int = 0
) -> WeightShapes:
    """The shapes of a Llama without biases. key_values: width of all key heads together, `hidden` where it is 0."""
    narrow = key_values or hidden
    inner = {
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.k_proj": (narrow, hidden),
        "self_attn.v_proj": (narrow, hidden),
        "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (intermediate, hidden),
        "mlp.up_proj": (intermediate, hidden),
        "mlp.down_proj": (hidden, intermediate),
    }
    places = [f"model.layers.{index}" for index in range(layers)]
    norms = {f"{place}.{name}.weight": (hidden,) for place in places for name in ("input_layernorm", "post_layernorm")}
    ends: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (vocabulary, hidden),
        "model.norm.weight": (hidden,),
    }
    if not tied:
        ends["lm_head.weight"] = (vocabulary, hidden)
    linears = {f"{place}.{name}.weight": shape for place in places for name, shape in inner.items()}
    return WeightShapes(linears, {**ends, **norms}, layers, vocabulary, tied)


DEEPSEEK_7B = llama_shapes(hidden=4096, intermediate=11008, layers=30, vocabulary=102400, tied=False)
"""deepseek-ai/deepseek-llm-7b-chat, from its config.json: 6,910,365,696 weights."""


def safetensors_bytes(tensors: Iterable[tuple[str, float]]) -> int:
    """Size of a safetensors file of (name, bytes) tensors."""
    return int(sum(size + len(name) + HEADER_OF_A_TENSOR for name, size in tensors))


def sixteen_bits(shapes: dict[str, tuple[int, ...]]) -> list[tuple[str, float]]:
    """(name, bytes) of tensors that are stored in two bytes a weight."""
    return [(name, 2.0 * math.prod(shape)) for name, shape in shapes.items()]
