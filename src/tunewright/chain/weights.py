"""Stored merged weights against the merge made anew: equal tensor by tensor, to the last bit of the stored format.

Logits in bfloat16 are too noisy to show one wrong weight; the weights themselves are not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from tunewright.models.source import weight_files

ULPS = {torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10, torch.float32: 2.0**-22}
"""One step of the format relative to the number: another machine may merge with another last digit."""


@dataclass(frozen=True)
class WeightDifference:
    """tensors: how many were compared; worst: the tensor with the largest difference beyond a last digit, empty where
    there is none; places: how many of its weights differ so; largest: by how much."""

    tensors: int
    worst: str = ""
    places: int = 0
    largest: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """For chain.json."""
        return {"tensors": self.tensors, "worst": self.worst, "places": self.places, "largest": self.largest}


@torch.no_grad()
def compare(model: Any, folder: Path, *, rounded: torch.dtype | None = None) -> WeightDifference:
    """The weights in `folder` against those of `model` rounded to the stored format, one tensor in memory at a time.
    rounded: the format that the weights went through first. `model` must not be packed yet. A tensor that the model
    does not have differs everywhere."""
    known: dict[str, Tensor] = dict(model.state_dict())
    seen, worst = 0, WeightDifference(0)
    for path in weight_files(folder):
        with safe_open(str(path), framework="pt") as handle:
            for name in handle.keys():  # noqa: SIM118 (no iterator)
                seen += 1
                ours = known.get(name)
                if ours is not None and rounded is not None:
                    ours = ours.to(rounded)
                worst = max(worst, _apart(name, ours, handle.get_tensor(name)), key=lambda one: one.largest)
    return replace(worst, tensors=seen)


def _apart(name: str, ours: Tensor | None, stored: Tensor) -> WeightDifference:
    if ours is None or ours.shape != stored.shape:
        return WeightDifference(1, name, stored.numel(), float("inf"))
    rounded = ours.detach().cpu().to(stored.dtype).float()
    difference = (rounded - stored.float()).abs()
    beyond = difference > ULPS.get(stored.dtype, 0.0) * rounded.abs()
    if not bool(beyond.any()):
        return WeightDifference(1)
    return WeightDifference(1, name, int(beyond.sum()), float(difference[beyond].max()))
