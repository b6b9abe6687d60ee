"""The forward pass of Llama-like decoders for inference, without the library's work around it.

Same mathematics as transformers' `LlamaForCausalLM` and its relatives (RMSNorm, rotary positions, grouped-query
attention, SiLU gate), in a third of the operations: one step at batch 1 is mostly their overhead. Whatever stands in
the projections (packed, quantized, adapter layers) is called as it is. A model gets this pass only where its structure
is known and a probe's logits agree with transformers' (`fast_decoder`). Equality: tests/models/kernels/; figures:
docs/results.md. Switch: `for_inference(model, fast=False)`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tunewright.models.kernels.slots import Slots
from tunewright.models.packed_linear import PackedPart

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
"""`model_type`s whose structure this file knows."""
_PROBE_TOKENS = 24
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-5}
_TOLERANCE_16_BIT = 0.05
"""Largest difference of the probe's logits as a share of their norm. transformers takes norms and positions in fp32
whatever the model's dtype; two orders of bf16 additions differ by 1 %."""
Projection = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Block:
    """One layer. qkv: [.., d] to queries, keys and values side by side; gate_up: to gate and up side by side."""

    input_norm: Projection
    qkv: Projection
    query_norm: Projection | None
    key_norm: Projection | None
    out: Projection
    mlp_norm: Projection
    gate_up: Projection
    down: Projection


@dataclass(frozen=True)
class _Pass:
    """What every layer of one pass shares. turn: cosines and signed sines [B, T, 1, D] of the rotary positions."""

    turn: tuple[Tensor, Tensor]
    mask: Tensor | None
    slots: Slots


class FastDecoder:
    """A decoder as tensors and functions. Built from a transformers model whose modules it shares."""

    def __init__(self, model: Any) -> None:
        body, config = _body(model), model.config
        self._embed, self._norm, self._head = body.embed_tokens, _rms(body.norm), _plain(model).lm_head
        self._rotary = body.rotary_emb
        self._blocks = [_block(layer) for layer in body.layers]
        self._heads, self._kv_heads = config.num_attention_heads, config.num_key_value_heads
        self._size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._first: Tensor = torch.ones(self._size)
        self._first[: self._size // 2] = -1

    def __call__(self, ids: Tensor, sees: Tensor, positions: Tensor, slots: Slots, *, last_only: bool) -> Tensor:
        """Logits [B, T, V] (T is 1 with `last_only`) of `ids` [B, T], whose keys and values are added to `slots`.

        sees: [B, n] which of the n columns (earlier ones and these) hold a token, the new ones causal among
        themselves; or bool [B, 1, T, n] that says it all.
        """
        hidden = self._embed(ids)
        cos, sin = self._rotary(hidden, positions)
        turn = (cos[:, :, None], (sin * self._first.to(sin))[:, :, None])
        this = _Pass(turn, _attention_mask(sees, ids.shape[1]), slots)
        for index, block in enumerate(self._blocks):
            hidden = hidden + block.out(self._attend(index, block, hidden, this))
            gate_up = block.gate_up(block.mlp_norm(hidden))
            width = gate_up.shape[-1] // 2
            hidden = hidden + block.down(functional.silu(gate_up[..., :width]) * gate_up[..., width:])
        slots.advance(ids.shape[1])
        return torch.as_tensor(self._head(self._norm(hidden[:, -1:] if last_only else hidden)))

    def _attend(self, index: int, block: _Block, hidden: Tensor, this: _Pass) -> Tensor:
        """Attention of one layer, [B, T, heads * D], before the output projection."""
        rows, length, _ = hidden.shape
        both = block.qkv(block.input_norm(hidden)).view(rows, length, self._heads + 2 * self._kv_heads, self._size)
        values = both[:, :, self._heads + self._kv_heads :]
        turned = self._turned(block, both, this.turn)
        keys, values = this.slots.write(index, turned[:, :, self._heads :].transpose(1, 2), values.transpose(1, 2))
        queries = turned[:, :, : self._heads]
        if length == 1:  # the heads of a group are the rows of one small product: nothing is repeated
            grouped = queries.reshape(rows, self._kv_heads, self._heads // self._kv_heads, self._size)
            found = functional.scaled_dot_product_attention(grouped, keys, values, attn_mask=this.mask)
            return found.reshape(rows, 1, -1)
        found = functional.scaled_dot_product_attention(
            queries.transpose(1, 2),
            keys,
            values,
            attn_mask=this.mask,
            is_causal=this.mask is None,
            enable_gqa=self._heads != self._kv_heads,
        )
        return found.transpose(1, 2).reshape(rows, length, -1)

    def _turned(self, block: _Block, both: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        """Queries and keys [B, T, heads + kv_heads, D] after their norms (where there are any) and rotary positions."""
        together = both[:, :, : self._heads + self._kv_heads]
        if block.query_norm and block.key_norm:
            parts = block.query_norm(together[:, :, : self._heads]), block.key_norm(together[:, :, self._heads :])
            together = torch.cat(parts, 2)
        cos, sin = turn
        return torch.addcmul(together * cos, torch.roll(together, self._size // 2, -1), sin)


def fast_decoder(model: Any) -> FastDecoder | None:
    """The fast pass of `model`; None where its structure is not known to be covered or a probe does not agree."""
    if not _is_known(model):
        return None
    decoder = FastDecoder(model)
    return decoder if _agrees(decoder, model) else None


def _is_known(model: Any) -> bool:
    config = model.config
    sliding = getattr(config, "use_sliding_window", True) and getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    return (
        config.model_type in FAMILIES
        and config.hidden_act == "silu"
        and not sliding
        and kinds == {"full_attention"}
        and hasattr(_plain(model), "lm_head")
    )


@torch.inference_mode()
def _agrees(decoder: FastDecoder, model: Any) -> bool:
    """Whether prefill and one step behind it give transformers' logits on a probe."""
    device = model.device
    ids = (torch.arange(2 * _PROBE_TOKENS, device=device).view(2, -1) * 7919) % model.config.vocab_size
    positions = torch.arange(_PROBE_TOKENS, device=device).expand(2, -1)
    expected = model(input_ids=ids, attention_mask=torch.ones_like(ids), position_ids=positions).logits[:, -2:].float()
    slots, ones = Slots([]), torch.ones_like(ids)
    first = decoder(ids[:, :-1], ones[:, :-1], positions[:, :-1], slots, last_only=True)
    second = decoder(ids[:, -1:], ones, positions[:, -1:], slots, last_only=True)
    found = torch.cat([first, second], 1).float()
    error = torch.linalg.vector_norm(found - expected) / torch.linalg.vector_norm(expected)
    return bool(error <= _TOLERANCE.get(model.dtype, _TOLERANCE_16_BIT))


def _attention_mask(sees: Tensor, length: int) -> Tensor | None:
    """bool [B, 1, T, n] for scaled_dot_product_attention; None where a causal mask says it all (no column before the
    new ones, none empty) or, for one new token, where every column is seen."""
    if sees.dim() == 4:
        return sees
    columns = sees.bool()
    is_full = bool(columns.all())
    if length == 1:
        return None if is_full else columns[:, None, None]
    if is_full and length == columns.shape[1]:
        return None
    past = columns.shape[1] - length
    causal = torch.ones(length, columns.shape[1], dtype=torch.bool, device=sees.device).tril(past)
    mask = causal & columns[:, None, None]
    mask[..., past:] |= torch.eye(length, dtype=torch.bool, device=sees.device)  # an empty row would be NaN
    return mask


def _plain(model: Any) -> Any:
    """The transformers model inside an adapter's wrapper."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _body(model: Any) -> Any:
    return _plain(model).model


def _rms(norm: Any) -> Projection:
    """RMSNorm in one call; the sum of squares is taken in fp32 as transformers does."""
    weight, epsilon = norm.weight, norm.variance_epsilon
    return lambda x: torch.rms_norm(x, weight.shape, weight, epsilon)


def _block(layer: Any) -> _Block:
    attention, mlp = layer.self_attn, layer.mlp
    return _Block(
        input_norm=_rms(layer.input_layernorm),
        qkv=_side_by_side(attention.q_proj, attention.k_proj, attention.v_proj),
        query_norm=_rms(attention.q_norm) if hasattr(attention, "q_norm") else None,
        key_norm=_rms(attention.k_norm) if hasattr(attention, "k_norm") else None,
        out=attention.o_proj,
        mlp_norm=_rms(layer.post_attention_layernorm),
        gate_up=_side_by_side(mlp.gate_proj, mlp.up_proj),
        down=mlp.down_proj,
    )


def _side_by_side(*layers: Any) -> Projection:
    """The outputs of `layers` behind one another: one product where they were packed as one."""
    first = layers[0]
    if isinstance(first, PackedPart) and all(getattr(layer, "whole", None) is first.whole for layer in layers):
        whole: Projection = first.whole
        return whole
    return lambda x: torch.cat([layer(x) for layer in layers], -1)
