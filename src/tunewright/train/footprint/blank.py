"""A model without data: every layer with its shape and number format, nothing behind it.

Built on torch's meta device, where the training method prepares it as it prepares a real one; then its parameters
become fake tensors of the CPU, on which torch takes the same ways through attention and autograd as on real ones.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, AutoModelForCausalLM

from tunewright.core.errors import ArtifactError
from tunewright.core.registry import PluginOptions
from tunewright.models import adapters_prefix
from tunewright.models.packing import PLAIN
from tunewright.train import precision
from tunewright.train.config import TrainConfig
from tunewright.train.methods.options import METHODS, FreezeOptions, LoraOptions, PrefixOptions
from tunewright.train.precision import Precision
from tunewright.train.settle import settle


def read_config(path: Path, *, trust_remote_code: bool = False) -> Any:
    """transformers' configuration from a config.json or the folder that holds one.

    Raises ArtifactError for a file that describes no causal language model of a known kind.
    """
    try:
        return AutoConfig.from_pretrained(str(path), local_files_only=True, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        line = next(iter(str(error).splitlines()), "it cannot be read")
        raise ArtifactError(
            f"this describes no model that can be planned: {line}", where=str(path), fix="give a model's config.json"
        ) from None


def depth_of(config: Any) -> int:
    """Decoder layers."""
    return int(config.get_text_config().num_hidden_layers)


def vocabulary_of(config: Any) -> int:
    """Rows of the output head."""
    return int(config.get_text_config().vocab_size)


def blank_model(config: Any, settings: TrainConfig, formats: Precision, *, layers: int) -> Any:
    """The model of `config` with `layers` decoder layers on the meta device, prepared by the method of `settings` as
    training prepares it. A base in 4 or 8 bits is built in 16: the caller knows its size."""
    shortened = type(config).from_dict(config.to_dict())
    inner = shortened.get_text_config()
    inner.num_hidden_layers = layers
    if getattr(inner, "layer_types", None):
        inner.layer_types = list(inner.layer_types)[:layers]
    with torch.device("meta"), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # of initial values that a tensor without data cannot take
        model = AutoModelForCausalLM.from_config(shortened, dtype=formats.dtype, attn_implementation=PLAIN)
        model.tie_weights()
        settle(model, settings)
        adapted = _prepared(model, settings.method, layers)
        if formats.has_masters:
            precision.raise_trained(adapted)
    return adapted.train()


def _prepared(model: Any, options: PluginOptions, layers: int) -> Any:
    """pissa has plain LoRA's shape, and its decomposition needs numbers; a prefix takes its text from the model's
    folder, and only its length matters here."""
    if isinstance(options, PrefixOptions):
        size = options.projection_size if options.projection else None
        return adapters_prefix.adapt(model, list(range(options.virtual_tokens)), projection_size=size)
    if isinstance(options, LoraOptions):
        variant = "plain" if options.variant == "pissa" else options.variant
        options = options.model_copy(update={"variant": variant, "base_bits": None})
    if isinstance(options, FreezeOptions):
        options = options.model_copy(update={"layers": min(options.layers, layers)})
    return METHODS.target(options.name)(options).prepare(model)


def give_fake_tensors(model: Any, mode: FakeTensorMode) -> None:
    """Parameters and buffers of `model` become fake tensors of the CPU, in place; tied ones stay tied."""
    made: dict[int, Any] = {}
    old: list[Any] = []
    for module in model.modules():
        for store in (module._parameters, module._buffers):
            for name, tensor in store.items():
                if tensor is None:
                    continue
                if id(tensor) not in made:
                    old.append(tensor)  # keeps its id from being given to another
                    made[id(tensor)] = _fake(tensor, mode)
                store[name] = made[id(tensor)]


def _fake(tensor: torch.Tensor, mode: FakeTensorMode) -> torch.Tensor:
    with mode:
        blank = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
        if isinstance(tensor, nn.Parameter):
            return nn.Parameter(blank, requires_grad=tensor.requires_grad)
        return blank
