"""The training methods by name, and their knobs in the project file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tunewright.core.registry import Entry, PluginOptions, Registry

_OPTIONS = "tunewright.train.methods.options"
METHODS = Registry(
    "methods",
    {
        "lora": Entry("tunewright.train.methods.lora:Lora", f"{_OPTIONS}:LoraOptions", "train"),
        "full": Entry("tunewright.train.methods.full:Full", f"{_OPTIONS}:FullOptions", "train"),
    },
)


class LoraOptions(PluginOptions):
    """Low-rank adapters (Hu et al. 2021, arXiv 2106.09685): the base stays frozen."""

    name: Literal["lora"] = "lora"
    rank: int = Field(default=16, ge=1, le=1024)
    """Rank of the two adapter matrices."""
    alpha: float = Field(default=32, gt=0)
    """Scale of the adapter: its output is multiplied by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout before the adapter."""
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Names of the linear layers that get an adapter, such as [q_proj, v_proj]."""


class FullOptions(PluginOptions):
    """All weights are trained."""

    name: Literal["full"] = "full"
