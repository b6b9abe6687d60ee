"""How several devices share one training: the choices by name, and their knobs in the project file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tunewright.core.registry import Entry, PluginOptions, Registry

_OPTIONS = "tunewright.train.sharding.options"
_SHARDING = "tunewright.train.sharding"
SHARDINGS = Registry(
    "shardings",
    {
        "ddp": Entry(f"{_SHARDING}.ddp:Ddp", f"{_OPTIONS}:DdpOptions", "train"),
        "zero": Entry(f"{_SHARDING}.zero:Zero", f"{_OPTIONS}:ZeroOptions", "deepspeed"),
        "fsdp": Entry(f"{_SHARDING}.fsdp:Fsdp", f"{_OPTIONS}:FsdpOptions", "train"),
    },
)


class DdpOptions(PluginOptions):
    """Every device holds the whole model and computes a part of each step's rows. The fastest where the model fits."""

    name: Literal["ddp"] = "ddp"


class ZeroOptions(PluginOptions):
    """DeepSpeed ZeRO (Rajbhandari et al. 2020, arXiv 1910.02054): each device holds a part of the optimizer's state
    (stage 1), of the gradients as well (2) and of the weights as well (3). Needs the extra `deepspeed`."""

    name: Literal["zero"] = "zero"
    stage: Literal[1, 2, 3] = 2
    """1: optimizer state, 2: and gradients, 3: and weights are divided by the number of devices."""
    offload: bool = False
    """Keeps the optimizer's state (with stage 3 also the weights) in the machine's memory: smaller and slower."""


class FsdpOptions(PluginOptions):
    """PyTorch's own sharding (FSDP2, torch.distributed.fsdp.fully_shard): weights, gradients and optimizer state are
    divided by the number of devices; each layer is put together while it computes."""

    name: Literal["fsdp"] = "fsdp"
    offload: bool = False
    """Keeps weights and optimizer state in the machine's memory: smaller and slower."""
    reshard_after_forward: bool = Field(default=True)
    """Takes a layer apart again between the forward and the backward pass; off: faster and larger (as ZeRO-2)."""
