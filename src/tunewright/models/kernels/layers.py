"""Decoder layers of Llama-like models for training, put together of this folder's functions.

The attention layer computes a packed sequence's queries, keys and values with `project` and `turn`; the last decoder
layer goes on, after its attention, with the positions whose output is wanted alone. What these forms do not cover (a
cache, padded rows, other adapters) is computed by transformers' own forward pass, row for row the same. Equality:
tests/models/kernels/test_layers.py. Switch: `train.kernels: plain`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tunewright.models.kernels.projection import project, projections_of
from tunewright.models.kernels.rotary import turn

KEPT = "kept_positions"
"""Argument of a model's forward pass, [n] int64: the positions that the last layer gives, where it is a `Last`."""


class Attention:
    """A form of transformers' attention layers; see models/kernels/fused."""

    q_proj: Any
    k_proj: Any
    v_proj: Any
    o_proj: Any
    config: Any
    head_dim: int
    scaling: float
    training: bool
    attention_dropout: float

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Attention of one packed sequence, hidden_states [1, T, d]; anything else as the class below does it."""
        if position_embeddings is not None and past_key_values is None and "segments" in kwargs:
            found = projections_of((self.q_proj, self.k_proj, self.v_proj), hidden_states)
            if found is not None and position_embeddings[0].shape[-1] == self.head_dim:
                states = project(hidden_states, found)
                return self._attended(states, position_embeddings, attention_mask, kwargs), None
        plain: tuple[Tensor, Tensor | None] = super().forward(  # type: ignore[misc]
            hidden_states=hidden_states,
            position_embeddings=position_embeddings,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            **kwargs,
        )
        return plain

    def _attended(
        self, states: tuple[Tensor, ...], turns: tuple[Tensor, Tensor], mask: Tensor | None, kwargs: dict[str, Any]
    ) -> Tensor:
        """The layer's output [1, T, d]. states: queries, keys and values [1, T, heads * D]; turns: cos, sin [1, T, D].
        Qwen3 norms each head of queries and keys before its position."""
        queries, keys, values = (one.view(one.shape[1], -1, self.head_dim) for one in states)
        cos, sin = turns
        output, _ = ALL_ATTENTION_FUNCTIONS[self.config._attn_implementation](
            self,
            turn(getattr(self, "q_norm", _same)(queries), cos[0], sin[0])[None],
            turn(getattr(self, "k_norm", _same)(keys), cos[0], sin[0])[None],
            values.transpose(0, 1)[None],
            mask,
            dropout=self.attention_dropout if self.training else 0.0,
            scaling=self.scaling,
            sliding_window=getattr(self, "sliding_window", getattr(self.config, "sliding_window", None)),
            **kwargs,
        )
        output = output.reshape(1, len(queries), -1)
        outward = projections_of((self.o_proj,), output)
        found: Tensor = self.o_proj(output) if outward is None else project(output, outward)[0]
        return found


class Last:
    """A form of the last decoder layer."""

    input_layernorm: Any
    self_attn: Any
    post_attention_layernorm: Any
    mlp: Any

    def forward(self, hidden_states: Tensor, **kwargs: Any) -> Tensor:
        """The layer's output, of the wanted positions alone where they are named: [1, n, d]."""
        kept = kwargs.pop(KEPT, None)
        if kept is None:
            whole: Tensor = super().forward(hidden_states, **kwargs)  # type: ignore[misc]
            return whole
        attended, _ = self.self_attn(hidden_states=self.input_layernorm(hidden_states), **kwargs)
        hidden = (hidden_states + attended).index_select(1, kept)
        output: Tensor = hidden + self.mlp(self.post_attention_layernorm(hidden))
        return output


def _same(states: Tensor) -> Tensor:
    return states
