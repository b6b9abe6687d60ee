"""Distributed data parallel: every rank holds everything, gradients are averaged."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from tunewright.train.precision import Precision
from tunewright.train.sharding.options import DdpOptions
from tunewright.train.sharding.strategy import Held, Inside, Work, elements, trained
from tunewright.train.sharding.world import World


class Ddp:
    """torch's DistributedDataParallel; the gradient travels with the last micro-batch of a step."""

    text = "DDP"
    divides: frozenset[str] = frozenset[str]()
    keeps_files = False
    optimizer: Any
    scheduled: torch.optim.Optimizer

    def __init__(self, options: DdpOptions, world: World, formats: Precision) -> None:
        self._world, self._formats = world, formats
        self._network: Any = None
        self._wrapped: Any = None
        self._clip = 0.0

    def wrap(self, network: Any, make_optimizer: Callable[[], torch.optim.Optimizer], clip: float) -> Any:
        """Starts from the first rank's weights."""
        self._network, self._clip = network, clip
        self.optimizer = self.scheduled = make_optimizer()
        places = [self._world.local_rank] if network.device.type == "cuda" else None
        with warnings.catch_warnings():  # newer releases of torch rename the setting
            warnings.simplefilter("ignore", FutureWarning)
            self._wrapped = DistributedDataParallel(Inside(network), device_ids=places, broadcast_buffers=False)
        return self._wrapped

    def learn(self, work: Work, *, is_last: bool) -> Tensor:
        """Averages over the ranks at the last micro-batch only."""
        with nullcontext() if is_last else self._wrapped.no_sync():
            with self._autocast():
                loss: Tensor = self._wrapped(work)
            loss.backward()
        return loss.detach()

    def look(self, work: Work) -> Any:
        """By this rank alone."""
        with self._autocast():
            return work(self._network)

    def clip(self) -> float:
        """The same on every rank: gradients are."""
        return float(torch.nn.utils.clip_grad_norm_(trained(self._network).values(), self._clip))

    def local(self) -> dict[str, Tensor]:
        """All of it."""
        return {name: parameter.detach() for name, parameter in trained(self._network).items()}

    def held(self) -> Held:
        """Everything."""
        in_optimizer = sum(p.numel() for group in self.scheduled.param_groups for p in group["params"])
        inside = self._wrapped.module.network
        return Held(elements(inside, trained=True), elements(inside, trained=False), in_optimizer)

    def full(self) -> dict[str, Tensor]:
        """The first rank has all of it."""
        return {name: each.cpu() for name, each in self.local().items()} if self._world.is_first else {}

    def save(self, folder: Path) -> None:
        """The trainer's own files hold everything."""
        raise AssertionError("the trainer writes them")

    def load(self, folder: Path, *, weights_only: bool) -> None:
        """The trainer's own files hold everything."""
        raise AssertionError("the trainer reads them")

    def _autocast(self) -> Any:
        if not self._formats.autocast:
            return nullcontext()
        return torch.autocast(self._network.device.type, torch.bfloat16)
