"""The parts of a training's memory, and how several devices divide them. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from tunewright.core.registry import PluginOptions

Device = Literal["cpu", "cuda"]
PARTS = ("program", "weights", "gradients", "optimizer", "activations", "logits", "cache", "temporary", "allocator")


@dataclass(frozen=True)
class Footprint:
    """Bytes on each device at the moment of a training that needs the most. program: interpreter and libraries (on a
    GPU its context); activations: kept for the backward pass; logits: whatever is as wide as the vocabulary; cache:
    keys and values while answers are generated; temporary: the rest of a step; allocator: holes that it keeps. host:
    bytes in the machine's own memory beside a GPU. moment: of the training, in words;
    heap: of the parts, in blocks that come from the C library's heap (CPU). trained, total: weights."""

    program: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    cache: int
    temporary: int
    allocator: int
    host: int
    moment: str
    heap: int
    trained: int
    total: int

    @property
    def bytes(self) -> int:
        """All parts on the device."""
        return int(sum(getattr(self, part) for part in PARTS))

    def dump(self) -> dict[str, Any]:
        """The parts, their sum and the weights."""
        return {**self.__dict__, "bytes": self.bytes}


@dataclass(frozen=True)
class Split:
    """How `devices` share a training. stage: of ZeRO (0: each has everything, 1: optimizer, 2: and gradients, 3: and
    weights are divided); masters: whether float32 copies of 16-bit weights belong to the optimizer's state; offload:
    what is divided lies in the machine's memory."""

    devices: int = 1
    stage: int = 0
    offload: bool = False
    masters: bool = False

    @property
    def text(self) -> str:
        """`ZeRO-2 on 4, offloaded`."""
        if not self.stage:
            return f"{self.devices} copies" if self.devices > 1 else ""
        return f"ZeRO-{self.stage} on {self.devices}{', offloaded' if self.offload else ''}"


ALONE = Split()


def split_of(options: PluginOptions | None, devices: int) -> Split:
    """What `train.sharding` means for memory. FSDP divides what ZeRO-3 does and keeps float32 weights itself."""
    if options is None or devices < 1:
        return Split(max(1, devices))
    offload = bool(getattr(options, "offload", False))
    stage = {"ddp": 0, "fsdp": 3}.get(options.name, int(getattr(options, "stage", 0)))
    return Split(devices, stage, offload, masters=options.name == "zero")
