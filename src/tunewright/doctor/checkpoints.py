"""Room on the disk for the checkpoints of this project's training: from the headers of the weights alone."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from tunewright.core.files import human_bytes
from tunewright.doctor.facts import Fact
from tunewright.models import source

BYTES = 12
"""A trained weight in a checkpoint: itself and AdamW's two moments, in float32."""
NOT_ADAPTED = ("embed_tokens", "lm_head")
Shapes = Iterable[tuple[str, tuple[int, ...]]]


class Named(Protocol):
    """A method's options; some have `rank` and `targets` (LoRA), some `layers` (freeze)."""

    @property
    def name(self) -> str: ...


class Trains(Protocol):
    """The part of a `train:` section that is checked."""

    @property
    def method(self) -> Named: ...

    @property
    def keep_checkpoints(self) -> int: ...


def checkpoints_fact(train: Trains, folder: Path, free: int) -> Fact:
    """folder: the model's; free: bytes where the project's runs lie."""
    shapes = [item for path in source.weight_files(folder) for item in _shapes(path)]
    count = train.keep_checkpoints + 2
    need = count * checkpoint_bytes(train.method, shapes)
    words = (
        f"{human_bytes(need)} for {count} checkpoints ({train.keep_checkpoints} kept, the best, the one being written)"
        f" of {train.method.name}, {human_bytes(free)} free"
    )
    if need > free:
        fix = "free space, train.keep_checkpoints=1, or train.method.name=lora"
        return Fact(name="disk, checkpoints", fact=words, verdict="fail", fix=fix)
    return Fact(name="disk, checkpoints", fact=words)


def _shapes(path: Path) -> Shapes:
    return [(name, shape) for name, (_, shape) in source.stored_tensors(path).items()]


def checkpoint_bytes(method: Named, shapes: Shapes) -> int:
    """One checkpoint. A frozen weight is saved beside trained ones where the whole model is (freeze)."""
    shapes = list(shapes)
    total = sum(math.prod(shape) for _, shape in shapes)
    if method.name == "full":
        return BYTES * total
    if method.name == "freeze":
        return 4 * total + (BYTES - 4) * _last_layers(shapes, int(getattr(method, "layers", 1)))
    linear = [(name, shape) for name, shape in shapes if _is_linear(name, shape)]
    if method.name == "lora":
        wanted = getattr(method, "targets", "all-linear")
        chosen = [shape for name, shape in linear if wanted == "all-linear" or name.split(".")[-2] in wanted]
        return BYTES * int(getattr(method, "rank", 1)) * sum(sum(shape) for shape in chosen)
    return BYTES * sum(max(shape) for _, shape in linear)  # ia3 and a prefix: a vector or a few a layer


def _is_linear(name: str, shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 and name.endswith(".weight") and not any(part in NOT_ADAPTED for part in name.split("."))


def _last_layers(shapes: Shapes, count: int) -> int:
    """Weights of the `count` last numbered layers (`model.layers.29.`)."""
    by_layer: dict[int, int] = {}
    for name, shape in shapes:
        number = next((int(part) for part in name.split(".") if part.isdigit()), None)
        if number is not None:
            by_layer[number] = by_layer.get(number, 0) + math.prod(shape)
    return sum(size for number, size in by_layer.items() if number > max(by_layer) - count)
