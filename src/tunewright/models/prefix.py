"""What an engine needs to know of a trained prefix. models/adapters_prefix.py makes and opens one; it loads peft, which
takes a second, and a model without an adapter does not need it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch

from tunewright.models import cache as kv


class Prefixed(ABC):
    """A model that shows every row trained keys and values before its first token.

    virtual_tokens: how many; base_model: the model behind them.
    """

    virtual_tokens: int
    base_model: Any

    @abstractmethod
    def layers(self) -> kv.Layers:
        """(keys, values) a layer, each [1, H_kv, virtual_tokens, D]."""


def taken_positions(model: Any) -> int:
    """Positions of its context that a model's prefix takes; 0 without one."""
    return model.virtual_tokens if isinstance(model, Prefixed) else 0


@torch.no_grad()
def split(model: Any) -> tuple[Any, kv.Layers]:
    """(the model without its prefix, the prefix) for an engine that keeps a cache; (model, []) for any other model."""
    if not isinstance(model, Prefixed):
        return model, []
    return model.base_model, [(keys.detach(), values.detach()) for keys, values in model.layers()]
