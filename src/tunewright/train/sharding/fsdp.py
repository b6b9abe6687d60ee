"""FSDP2: weights, gradients and optimizer state divided by the ranks (torch.distributed.fsdp.fully_shard)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor

from tunewright.core.errors import ConfigError
from tunewright.train.precision import Precision
from tunewright.train.sharding.options import FsdpOptions
from tunewright.train.sharding.strategy import Held, Inside, Work, trained
from tunewright.train.sharding.world import World


class Fsdp:
    """Each decoder layer is put together for its own forward and backward pass; what is left (embedding, norm, head,
    tied or not) is whole while a micro-batch is computed. A rank writes its own part of a checkpoint."""

    text = "FSDP2"
    divides: frozenset[str] = frozenset({"trained", "frozen", "optimizer"})
    keeps_files = True
    optimizer: Any
    scheduled: torch.optim.Optimizer

    def __init__(self, options: FsdpOptions, world: World, formats: Precision) -> None:
        self._options, self._world, self._formats = options, world, formats
        self._network: Any = None
        self._wrapped: Any = None
        self._clip = 0.0

    def wrap(self, network: Any, make_optimizer: Callable[[], torch.optim.Optimizer], clip: float) -> Any:
        """Shards from the weights that each rank has read; `proof` has shown that they are the same."""
        self._network, self._clip = network, clip
        self._wrapped = Inside(network)
        settings: dict[str, Any] = {
            "reshard_after_forward": self._options.reshard_after_forward,
            "mp_policy": self._mixed(),
            "offload_policy": CPUOffloadPolicy() if self._is_offloaded else OffloadPolicy(),
        }
        for layer in layers_of(network):
            fully_shard(layer, **settings)
        fully_shard(self._wrapped, **settings)
        self.optimizer = self.scheduled = make_optimizer()
        return self._wrapped

    def learn(self, work: Work, *, is_last: bool) -> Tensor:
        """Reduces after every micro-batch, so that no rank ever holds a whole gradient."""
        loss: Tensor = self._wrapped(work)
        loss.backward()
        return loss.detach()

    def look(self, work: Work) -> Any:
        """By all ranks together. Afterwards every weight is a part again, also where layers stay whole for a backward
        pass."""
        found = self._wrapped(work)
        for module in self._wrapped.modules():
            if isinstance(module, FSDPModule):
                module.reshard()
        return found

    def clip(self) -> float:
        """The length over all ranks' parts."""
        gradients = [p.grad for p in trained(self._network).values() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        torch.nn.utils.clip_grads_with_norm_(trained(self._network).values(), self._clip, norm)
        return float(norm)

    def local(self) -> dict[str, Tensor]:
        """This rank's rows of each weight."""
        return {name: _local(parameter) for name, parameter in trained(self._network).items()}

    def held(self) -> Held:
        """Weights that are no DTensor lie on this rank as a whole and count so."""
        sizes = {flag: sum(_local(p).numel() for p in self._parameters(flag)) for flag in (True, False)}
        in_optimizer = sum(_local(p).numel() for group in self.scheduled.param_groups for p in group["params"])
        return Held(sizes[True], sizes[False], in_optimizer)

    def _parameters(self, is_trained: bool) -> list[Tensor]:
        return [p for p in self._network.parameters() if p.requires_grad is is_trained]

    def full(self) -> dict[str, Tensor]:
        """One weight after the other, so that no second copy of the model comes together on a GPU."""
        found = {}
        for name, parameter in trained(self._network).items():
            whole = _whole(parameter)
            if self._world.is_first:
                found[name] = whole.cpu()
        return found

    def save(self, folder: Path) -> None:
        """Weights and optimizer state of this rank, as plain tensors."""
        states = {
            name: {key: _plain(value) for key, value in self.scheduled.state[parameter].items()}
            for name, parameter in trained(self._network).items()
            if parameter in self.scheduled.state
        }
        folder.mkdir(parents=True, exist_ok=True)
        rates = [float(group["lr"]) for group in self.scheduled.param_groups]
        torch.save({"weights": self.local(), "optimizer": states, "rates": rates}, folder / self._file)

    def load(self, folder: Path, *, weights_only: bool) -> None:
        """Into the DTensors that are there."""
        held = torch.load(folder / self._file, map_location="cpu", weights_only=True)
        with torch.no_grad():
            for name, part in self.local().items():
                part.copy_(held["weights"][name])
        if weights_only:
            return
        for group, rate in zip(self.scheduled.param_groups, held["rates"], strict=True):
            group["lr"] = rate
        for name, parameter in trained(self._network).items():
            self.scheduled.state[parameter] = {
                key: _like(value, parameter) for key, value in held["optimizer"].get(name, {}).items()
            }

    @property
    def _file(self) -> str:
        return f"fsdp_rank_{self._world.rank}.pt"

    @property
    def _is_offloaded(self) -> bool:
        return self._options.offload and torch.cuda.is_available()

    def _mixed(self) -> MixedPrecisionPolicy:
        """float32 masters are computed with in bfloat16 and their gradients summed in float32."""
        if not self._formats.has_masters:
            return MixedPrecisionPolicy()
        return MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)


def layers_of(network: Any) -> list[nn.Module]:
    """The decoder layers: what transformers never splits over devices. Raises ConfigError where a model names none."""
    base = network.get_base_model() if hasattr(network, "get_base_model") else network
    kinds = set(getattr(base, "_no_split_modules", None) or ())
    found = [module for module in base.modules() if type(module).__name__ in kinds]
    if not found:
        raise ConfigError(
            f"{type(base).__name__} does not say what its layers are, so FSDP cannot shard it by layer",
            where="train.sharding",
            fix="use train.sharding.name=zero with stage 3, or ddp",
        )
    return found


def _local(value: Tensor) -> Tensor:
    held = value.detach()
    return held.to_local() if isinstance(held, DTensor) else held


def _whole(value: Tensor) -> Tensor:
    held = value.detach()
    return held.full_tensor() if isinstance(held, DTensor) else held


def _plain(value: Any) -> Any:
    return _local(value) if isinstance(value, Tensor) else value


def _like(value: Any, parameter: Tensor) -> Any:
    """An entry of the optimizer's state: sharded as its weight is, except the count of steps."""
    if not isinstance(value, Tensor) or not value.dim() or not isinstance(parameter, DTensor):
        return value
    place = _local(parameter).device
    return DTensor.from_local(
        value.to(place), parameter.device_mesh, parameter.placements, shape=parameter.shape, stride=parameter.stride()
    )
