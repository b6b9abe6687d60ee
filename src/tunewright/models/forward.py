"""One forward pass over a cache, by transformers or by our own decoder: what the generation engine calls.

`state` is the cache in the form that the pass extends best; `layers` and `state` translate it from and to tensors.
"""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from tunewright.models import cache as kv
from tunewright.models.kernels.decoder import FastDecoder, fast_decoder
from tunewright.models.kernels.slots import Slots

_ATTRIBUTE = "tunewright_fast_pass"


class Pass(Protocol):
    """ids [B, T] behind `state`; sees: [B, n] columns that hold a token, or bool [B, 1, T, n]; positions: [B, T].
    Returns logits [B, T, V] (T is 1 with last_only) and the extended state."""

    def __call__(
        self, ids: Tensor, sees: Tensor, positions: Tensor, state: Any, *, last_only: bool
    ) -> tuple[Tensor, Any]:
        """The pass."""
        ...

    def state(self, layers: kv.Layers) -> Any:
        """The cache that holds `layers`."""
        ...

    def layers(self, state: Any) -> kv.Layers:
        """The tensors inside a cache."""
        ...

    def join(self, first: Any, second: Any) -> Any:
        """Both batches in one, the shorter padded on the left."""
        ...

    def select(self, state: Any, rows: list[int], *, drop_left: int) -> Any:
        """Only `rows`, without the first `drop_left` columns."""
        ...


class TransformersPass:
    """Any architecture, by transformers."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __call__(
        self, ids: Tensor, sees: Tensor, positions: Tensor, state: Any, *, last_only: bool
    ) -> tuple[Tensor, Any]:
        """See `Pass`."""
        output = self._model(
            input_ids=ids,
            attention_mask=sees,
            position_ids=positions,
            past_key_values=state,
            use_cache=True,
            logits_to_keep=1 if last_only else 0,
        )
        return output.logits, output.past_key_values

    def state(self, layers: kv.Layers) -> Any:
        """See `Pass`."""
        return kv.cache_of(layers) if layers else None

    def layers(self, state: Any) -> kv.Layers:
        """See `Pass`."""
        return kv.layers_of(state)

    def join(self, first: Any, second: Any) -> Any:
        """See `Pass`."""
        return kv.cache_of(kv.join(kv.layers_of(first), kv.layers_of(second)))

    def select(self, state: Any, rows: list[int], *, drop_left: int) -> Any:
        """See `Pass`."""
        return kv.cache_of(kv.select(kv.layers_of(state), rows, drop_left=drop_left))


class FastPass:
    """Llama-like models, by models/kernels/decoder."""

    def __init__(self, decoder: FastDecoder) -> None:
        self._decoder = decoder

    def __call__(
        self, ids: Tensor, sees: Tensor, positions: Tensor, state: Any, *, last_only: bool
    ) -> tuple[Tensor, Any]:
        """See `Pass`."""
        slots: Slots = state
        return self._decoder(ids, sees, positions, slots, last_only=last_only), slots

    def state(self, layers: kv.Layers) -> Any:
        """See `Pass`."""
        return Slots(layers)

    def layers(self, state: Any) -> kv.Layers:
        """See `Pass`."""
        slots: Slots = state
        return slots.layers()

    def join(self, first: Any, second: Any) -> Any:
        """See `Pass`."""
        slots: Slots = first
        return slots.join(second)

    def select(self, state: Any, rows: list[int], *, drop_left: int) -> Any:
        """See `Pass`."""
        slots: Slots = state
        return slots.select(rows, drop_left=drop_left)


def make_fast(model: Any) -> bool:
    """Gives `model` (its weights final) our own pass where that is proven equal; whether it did."""
    decoder = fast_decoder(model)
    if decoder is not None:
        object.__setattr__(model, _ATTRIBUTE, FastPass(decoder))
    return decoder is not None


def pass_of(model: Any) -> Pass:
    """The pass that `model` was given, else transformers'."""
    found: Pass | None = vars(model).get(_ATTRIBUTE)
    return found or TransformersPass(model)
