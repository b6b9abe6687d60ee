"""The training methods by name, and their knobs in the project file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tunewright.core.registry import Entry, PluginOptions, Registry

_OPTIONS = "tunewright.train.methods.options"
_METHODS = "tunewright.train.methods"
METHODS = Registry(
    "methods",
    {
        "lora": Entry(f"{_METHODS}.lora:Lora", f"{_OPTIONS}:LoraOptions", "train"),
        "ia3": Entry(f"{_METHODS}.ia3:Ia3", f"{_OPTIONS}:Ia3Options", "train"),
        "prefix": Entry(f"{_METHODS}.prefix:Prefix", f"{_OPTIONS}:PrefixOptions", "train"),
        "freeze": Entry(f"{_METHODS}.freeze:Freeze", f"{_OPTIONS}:FreezeOptions", "train"),
        "full": Entry(f"{_METHODS}.full:Full", f"{_OPTIONS}:FullOptions", "train"),
    },
)


class LoraOptions(PluginOptions):
    """Low-rank adapters (Hu et al. 2021, arXiv 2106.09685): the base stays frozen."""

    name: Literal["lora"] = "lora"
    rank: int = Field(default=16, ge=1, le=1024)
    """Rank of the two adapter matrices."""
    alpha: float = Field(default=32, gt=0)
    """Scale of the adapter: its output is multiplied by alpha / rank (rslora: alpha / square root of rank)."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout before the adapter."""
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Names of the linear layers that get an adapter, such as [q_proj, v_proj]."""
    variant: Literal["plain", "rslora", "dora", "pissa"] = "plain"
    """rslora: a scale that keeps high ranks stable (Kalajdzievski 2023, arXiv 2312.03732). dora: direction and length
    of each weight are trained apart, slower (Liu et al. 2024, arXiv 2402.09353). pissa: starts from the largest
    singular vectors of the base (Meng et al. 2024, arXiv 2404.02948) and is saved as plain LoRA of twice the rank."""
    base_bits: Literal[4, 8] | None = None
    """Holds the frozen base in 4 (nf4) or 8 bits while training, to save memory (Dettmers et al. 2023, arXiv
    2305.14314); needs bitsandbytes. The adapter is then used with the base in its own format."""

    @model_validator(mode="after")
    def _base_is_fit(self) -> LoraOptions:
        if self.variant == "pissa" and self.base_bits:
            raise ValueError(
                "pissa takes its start out of the base's weights, which cannot be done in 4 or 8 bits; "
                "use base_bits: null or another variant"
            )
        if self.variant == "dora" and self.base_bits == 8:
            raise ValueError(
                "dora cannot be trained on a base in 8 bits, as bitsandbytes loses its scales on the way back; "
                "use base_bits: 4 or another variant"
            )
        return self


class Ia3Options(PluginOptions):
    """Learned factors on keys, values and the inside of the feed-forward layers (Liu et al. 2022, arXiv 2205.05638):
    the smallest adapter, for few rows; wants a learning rate of 3e-3 to 3e-2."""

    name: Literal["ia3"] = "ia3"
    targets: tuple[str, ...] | None = None
    """Names of linear layers whose output (feedforward: whose input) is scaled. By default the key, value and
    feed-forward output layers of the model."""
    feedforward: tuple[str, ...] | None = None
    """Those of `targets` whose input is scaled; by default the feed-forward output layers among them."""

    @model_validator(mode="after")
    def _feedforward_are_targets(self) -> Ia3Options:
        extra = sorted(set(self.feedforward or ()) - set(self.targets or self.feedforward or ()))
        if extra:
            raise ValueError(f"feedforward names {', '.join(extra)}, which targets does not; add it there")
        return self


class PrefixOptions(PluginOptions):
    """Prefix-tuning (Li & Liang 2021, arXiv 2101.00190): trained keys and values before the first token. The weights
    stay as they are, so it cannot be merged or quantized; wants a learning rate of 1e-2 to 3e-2."""

    name: Literal["prefix"] = "prefix"
    virtual_tokens: int = Field(default=20, ge=1, le=1024)
    """Length of the prefix; every row can be that much shorter."""
    initial_text: str = Field(
        default="Answer the question briefly and correctly. 请简短、正确地回答问题。", min_length=1
    )
    """Text whose keys and values the prefix starts from, repeated or cut to its length; best the task in a sentence."""
    projection: bool = False
    """Makes the prefix by a small network while training, as the article does. Takes more memory and a learning rate
    of about 1e-3; only the prefix is saved."""
    projection_size: int = Field(default=512, ge=1, le=8192)
    """Width of that network."""


class FreezeOptions(PluginOptions):
    """Trains the last layers, all others stay as they are."""

    name: Literal["freeze"] = "freeze"
    layers: int = Field(default=2, ge=1)
    """How many of the last layers are trained."""
    norm: bool = True
    """Whether the norm behind the last layer is trained."""
    head: bool = False
    """Whether the output head is trained; where the model ties it to the embedding, that is trained as well."""


class FullOptions(PluginOptions):
    """All weights are trained."""

    name: Literal["full"] = "full"
