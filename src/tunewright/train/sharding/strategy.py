"""What a way of sharding must offer, and the module that it wraps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

Work = Callable[[Any], Any]
"""A function of the model, such as the loss of a micro-batch."""


class Inside(nn.Module):
    """The model with any work on it as its forward pass. What is wrapped is this: sharded weights are whole while the
    wrapped forward pass runs, so the work may use any part of the model (its output head alone, say)."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, work: Work) -> Any:
        """What `work` makes of the model."""
        return work(self.network)


@dataclass(frozen=True)
class Held:
    """Elements that lie on this rank, padding included: of the trained weights, of the frozen ones, and of the weights
    that its optimizer updates (whose state it will hold)."""

    trained: int
    frozen: int
    optimizer: int


class Strategy(Protocol):
    """A registered sharding is constructed from its options, the world and the number format to compute in."""

    text: str
    """How it is said: `ZeRO-2`."""
    divides: frozenset[str]
    """Which parts of `Held` are divided by the ranks; the others lie on each as a whole."""
    keeps_files: bool
    """Whether `save` and `load` write and read checkpoints; else the trainer's own files do, from the first rank."""
    optimizer: Any
    """What the trainer steps; from `wrap` on."""
    scheduled: torch.optim.Optimizer
    """What the learning rate is set in; from `wrap` on."""

    def wrap(self, network: Any, make_optimizer: Callable[[], torch.optim.Optimizer], clip: float) -> Any:
        """Shards `network` in place and returns the wrapped module. clip: the longest gradient."""

    def learn(self, work: Work, *, is_last: bool) -> Tensor:
        """Forward and backward pass of a micro-batch's loss, averaged over the ranks; is_last: of this step. Returns
        the loss, detached."""

    def look(self, work: Work) -> Any:
        """Work that needs no gradient. Where the weights are sharded, every rank must do it."""

    def clip(self) -> float:
        """Shortens the gradient of all ranks; returns its length before."""

    def local(self) -> dict[str, Tensor]:
        """This rank's part of each trained weight."""

    def held(self) -> Held:
        """What lies on this rank."""

    def full(self) -> dict[str, Tensor]:
        """Every trained weight, whole, on the CPU of the first rank (elsewhere empty). Every rank must call it."""

    def save(self, folder: Path) -> None:
        """Writes what a resume needs, from every rank."""

    def load(self, folder: Path, *, weights_only: bool) -> None:
        """Reads it back, bit for bit; weights_only: without the optimizer's state."""


def elements(network: nn.Module, *, trained: bool) -> int:
    """How many weights a model that is not sharded trains, or holds frozen."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad is trained)


def trained(network: nn.Module) -> dict[str, nn.Parameter]:
    """The trained weights by name; tied ones once."""
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
