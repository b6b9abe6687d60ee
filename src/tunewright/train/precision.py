"""Number formats of a training: chosen by hardware and method, said with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch

from tunewright.core.errors import ConfigError
from tunewright.models.config import Dtype
from tunewright.models.load import explain_dtype

Autocast = Literal["", "bf16", "fp16"]


@dataclass(frozen=True)
class Precision:
    """How a training counts. dtype: of the loaded base and of what is saved. autocast: the 16-bit format that float32
    weights are multiplied in; empty where everything is multiplied in the format it has."""

    dtype: torch.dtype
    autocast: Autocast
    has_masters: bool
    reason: str

    def sentence(self) -> str:
        """For the screen."""
        name = name_of(self.dtype)
        if self.has_masters:
            kept = "trained weights kept in float32, so that small updates are not lost, and saved in"
            return f"multiplied in {name} ({self.reason}); {kept} {name}"
        scaled = ", loss scaled against underflow" if self.autocast == "fp16" else ""
        return f"in {name} ({self.reason}){scaled}"


def choose(wanted: Dtype, *, kind: str, optimizer: str = "adamw") -> Precision:
    """The formats for a method of this `kind` under this `train.optimizer`.

    Whole weights in 16 bits get float32 masters under autocast (Micikevicius et al. 2018, arXiv 1710.03740): an update
    of less than 1/256 of a bfloat16 weight would be rounded away; adamw_8bit rounds at random instead. Adapter weights
    are float32 in peft anyway. float16 needs its loss scaled, which torch does on CUDA only. Raises ConfigError for
    float16 without it.
    """
    dtype, reason = explain_dtype(wanted)
    if dtype == torch.float16:
        if not torch.cuda.is_available():
            raise ConfigError(
                "training in float16 needs a CUDA GPU: without loss scaling small gradients become zero",
                where="model.dtype",
                fix="use model.dtype=bfloat16, float32 or auto",
            )
        return Precision(dtype, "fp16", has_masters=kind == "full", reason=reason)
    has_masters = kind == "full" and dtype == torch.bfloat16 and optimizer == "adamw"
    return Precision(dtype, "bf16" if has_masters else "", has_masters=has_masters, reason=reason)


def raise_trained(model: Any) -> None:
    """Makes float32 masters of the weights that are trained, in place; tied weights stay tied."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def lower(model: Any, dtype: torch.dtype) -> None:
    """Rounds every floating weight to `dtype` in place, for saving."""
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)


def name_of(dtype: torch.dtype) -> str:
    """`bfloat16`."""
    return str(dtype).removeprefix("torch.")
