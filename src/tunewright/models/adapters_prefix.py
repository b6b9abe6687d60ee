"""Prefix-tuning (Li & Liang 2021, arXiv 2101.00190): trained keys and values that stand before the first token.

The forward pass and the gradients are ours, the folder is PEFT's. PEFT hands the prefix over as a key/value cache,
which gradient checkpointing throws away and which its generate() loses with some versions of transformers. Here the
prefix reaches each attention layer as an argument of the forward pass, and generation starts from a cache that holds it
(models/prefix.py), so neither depends on the versions. Equality with stock PEFT: tests/contracts/test_methods.py.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch
from peft import PeftModelForCausalLM, PrefixTuningConfig
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tunewright.core.errors import ConfigError
from tunewright.models import cache as kv
from tunewright.models.adapters_layers import decoder_layers
from tunewright.models.packing import ATTENTION, ATTENTION_SDPA, PLAIN, attending
from tunewright.models.prefix import Prefixed

_NAME = "default"
_ARGUMENT = "virtual_prefix"
"""How the prefix is called on its way through the model's forward pass."""
_CACHE_ARGUMENTS = ("cache", "past_key_values")
PROJECTION = "projection.safetensors"
"""Beside the adapter of a checkpoint: the network that makes the prefix, for resuming. Serving needs the prefix."""


class Projection(nn.Module):
    """A small network that makes the prefix while it is trained (section 4.3 of the article); only its output is kept.

    start: [P, L * 2 * H_kv * D], the prefix at the beginning: the last layer starts at zero and learns the difference.
    """

    def __init__(self, start: Tensor, size: int) -> None:
        super().__init__()
        tokens, width = start.shape
        self.start: Tensor
        self.register_buffer("start", start.detach().clone())
        self.embedding = nn.Embedding(tokens, size)
        last = nn.Linear(size, width)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.transform = nn.Sequential(nn.Linear(size, size), nn.Tanh(), last)
        self.to(start.device)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens: [..., P] int64 positions in the prefix; returns [..., P, L * 2 * H_kv * D]."""
        made: Tensor = self.start[tokens] + self.transform(self.embedding(tokens))
        return made


class PrefixModel(PeftModelForCausalLM, Prefixed):
    """A PEFT model (Trainer keeps its checkpoints as adapters) whose forward pass shows every row the prefix.

    Callers see an ordinary model: positions, masks and logits are those of the real tokens.
    """

    def __init__(self, model: Any, config: PrefixTuningConfig) -> None:
        _check(model)
        checkpointed = [module for module in model.modules() if getattr(module, "gradient_checkpointing", False)]
        for module in checkpointed:
            module.gradient_checkpointing = False  # PEFT refuses it, for its own forward pass
        try:
            super().__init__(model, config)
        finally:
            for module in checkpointed:
                module.gradient_checkpointing = True
        self.virtual_tokens = int(config.num_virtual_tokens)
        for attention, argument in _attentions(model):
            attention.register_forward_pre_hook(partial(_show_prefix, argument), with_kwargs=True)

    @property
    def encoder(self) -> Any:
        """PEFT's prefix embedding, or a `Projection` while one is trained."""
        return self.prompt_encoder[_NAME]

    def layers(self) -> kv.Layers:
        """(keys, values) a layer, each [1, H_kv, P, D] in the model's dtype, with gradient while it is trained."""
        encoder, settings = self.encoder, self.peft_config[_NAME]
        if isinstance(encoder, Projection):
            flat = encoder(torch.arange(self.virtual_tokens, device=self.device))
        else:
            flat = encoder.embedding.weight
        heads = settings.num_attention_heads
        shape = (self.virtual_tokens, 2 * settings.num_layers, heads, settings.token_dim // heads)
        parts = flat.to(self.device, self.dtype).view(shape).permute(1, 2, 0, 3)[:, None]
        return [(parts[index], parts[index + 1]) for index in range(0, len(parts), 2)]

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        position_ids: Tensor | None = None,
        use_cache: bool = False,
        logits_to_keep: int | Tensor = 0,
        segments: Sequence[Any] = (),
        **packed: Any,
    ) -> Any:
        """input_ids: [B, T]; attention_mask: [B, T], 1 = real token; segments: those of a packed sequence; `packed`:
        what else its layers take.

        No cache is read or made: generation goes through `models.generate`.
        """
        assert not use_cache, "a prefix model generates through models.generate"
        rest: dict[str, Any] = {"segments": segments, **packed} if segments else {}
        if not segments:
            mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
            rest["attention_mask"] = _see_prefix(mask, self.virtual_tokens)
            if position_ids is None:
                position_ids = (mask.cumsum(1) - 1).clamp(min=0)
        assert position_ids is not None, "a packed sequence comes with its positions"
        assert self.config._attn_implementation in ((ATTENTION, ATTENTION_SDPA) if segments else (PLAIN,))
        return self.base_model(
            input_ids=input_ids,
            position_ids=position_ids + self.virtual_tokens,
            use_cache=False,
            logits_to_keep=logits_to_keep,
            **{_ARGUMENT: self.layers()},
            **rest,
        )

    def generate(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: PEFT's own generate() ignores the prefix with some versions of transformers."""
        raise NotImplementedError("generate with tunewright.models.generate, which starts from the prefix")

    def save_pretrained(
        self, save_directory: str, *, state_dict: Any = None, safe_serialization: bool = True, **_: Any
    ) -> None:
        """A standard PEFT folder; with a projection also that, so that a checkpoint can be trained on."""
        super().save_pretrained(save_directory, safe_serialization=safe_serialization, save_embedding_layers=False)
        if isinstance(self.encoder, Projection):
            save_file(self.encoder.state_dict(), Path(save_directory) / PROJECTION)

    def load_adapter(self, model_id: str, adapter_name: str = _NAME, is_trainable: bool = False, **_: Any) -> Any:
        """Puts a saved prefix or its projection into this model: what Trainer calls to resume."""
        if not isinstance(self.encoder, Projection):
            return super().load_adapter(model_id, adapter_name, is_trainable=is_trainable)
        return self.encoder.load_state_dict(load_file(Path(model_id) / PROJECTION))


class _Front:
    """A cache that only shows the prefix: keys and values of a layer with the prefix before them; nothing is kept."""

    def __init__(self, layers: kv.Layers) -> None:
        self._layers = layers

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """keys, values: [B, H_kv, T, D]; returns [B, H_kv, P + T, D]."""
        ((front_keys, front_values),) = kv.repeat([self._layers[layer_idx]], len(keys))
        return torch.cat([front_keys, keys], 2), torch.cat([front_values, values], 2)


def _show_prefix(
    argument: str, _: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Before an attention layer, and so inside gradient checkpointing, which takes every cache away from the decoder
    layer around it. argument: what this layer calls its cache."""
    layers = named.pop(_ARGUMENT, None)
    return arguments, named if layers is None else {**named, argument: _Front(layers)}


def _attentions(model: Any) -> list[tuple[nn.Module, str]]:
    """The attention of each decoder layer, with the name of its cache argument (`cache` from transformers 5.24 on)."""
    found = []
    for layer in decoder_layers(model):
        for module in layer.modules():
            names = inspect.signature(module.forward).parameters
            known = [name for name in _CACHE_ARGUMENTS if name in names]
            if known and module is not layer and hasattr(module, "layer_idx"):
                found.append((module, known[0]))
    return found


def _see_prefix(mask: Tensor, virtual_tokens: int) -> Tensor:
    """mask: [B, T]; returns [B, 1, T, P + T] bool: every token sees the prefix, and the real ones up to itself."""
    rows, length = mask.shape
    real = torch.nn.functional.pad(mask.bool(), (virtual_tokens, 0), value=True)
    causal = torch.ones(length, virtual_tokens + length, dtype=torch.bool, device=mask.device).tril(virtual_tokens)
    return causal.expand(rows, 1, -1, -1) & real[:, None, None]


def adapt(model: Any, initial_ids: Sequence[int], *, projection_size: int | None = None) -> PrefixModel:
    """`model` with a trainable prefix of len(initial_ids) virtual tokens, which starts as the keys and values of
    `initial_ids`: a model prompted with them (section 7.4 of the article). Raises ConfigError for a model without
    plain causal attention."""
    _check(model)
    start = initial_prefix(model, initial_ids)
    heads = start[0][0].shape[1]
    config = PrefixTuningConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=len(initial_ids),
        num_layers=len(start),
        num_attention_heads=heads,
        token_dim=heads * start[0][0].shape[3],
    )
    adapted = PrefixModel(model, config)
    flat = torch.stack([part[0] for layer in start for part in layer])  # [2 L, H, P, D]
    flat = flat.permute(2, 0, 1, 3).flatten(1).float()
    if projection_size is None:
        with torch.no_grad():
            adapted.encoder.embedding.weight.copy_(flat)
    else:
        adapted.prompt_encoder[_NAME] = Projection(flat, projection_size)
    return adapted


@torch.no_grad()
def initial_prefix(model: Any, ids: Sequence[int]) -> kv.Layers:
    """Keys and values of `ids` at the first positions of `model`."""
    training = model.training
    model.eval()  # in training mode gradient checkpointing drops the cache
    try:
        with attending(model, PLAIN):
            output = model(input_ids=torch.tensor([list(ids)], device=model.device), use_cache=True)
    finally:
        model.train(training)
    return kv.layers_of(output.past_key_values)


def load(model: Any, folder: Path) -> PrefixModel:
    """`model` behind the prefix in `folder`, in evaluation mode."""
    config = PrefixTuningConfig.from_pretrained(str(folder))
    config.inference_mode = True
    loaded = PrefixModel(model, config)
    loaded.load_adapter(str(folder))
    loaded.eval()
    return loaded


def _check(model: Any) -> None:
    """Raises ConfigError where the prefix could not be shown to every layer and token, or would get no gradient."""
    settings = model.config
    sliding = ["sliding_attention"] if getattr(settings, "sliding_window", None) else []
    kinds = set(getattr(settings, "layer_types", None) or sliding) - {"full_attention"}
    reentrant = any(_is_reentrant(module) for module in decoder_layers(model))
    if kinds:
        reason = f"it has layers of {', '.join(sorted(kinds))}"
    elif len(_attentions(model)) != settings.num_hidden_layers:
        reason = "the attention of its layers cannot be found"
    elif reentrant:
        reason = "its gradient checkpointing is reentrant, which gives the prefix no gradient"
    else:
        return
    raise ConfigError(f"a prefix cannot be put before this model: {reason}", fix="use train.method.name=lora")


def _is_reentrant(layer: Any) -> bool:
    function = getattr(layer, "_gradient_checkpointing_func", None)
    return layer.gradient_checkpointing and getattr(function, "keywords", {}).get("use_reentrant") is True
