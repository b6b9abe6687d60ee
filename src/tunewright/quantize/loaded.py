"""The tuned model as often as it is needed, one copy at a time; and the proof that a variant is that model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tunewright.core.runs import Artifact
from tunewright.models.config import ModelConfig
from tunewright.models.load import load_model
from tunewright.models.tuned import open_tuned
from tunewright.quantize.scheme import QuantizeError
from tunewright.quantize.schemes.sixteen import DTYPES

LIMITS = ((12.0, 0.05), (6.0, 0.5), (0.0, 1.0))
"""(bits above, largest relative error of the logits). Rounding costs 0, 0.05 and 0.3 on the models of the tests;
another model, or one with a wrong tensor, is at 1 and more."""


@dataclass
class TunedModel:
    """`open` gives a model to use up: writing a variant may change it, so the next one is read again. reference: the
    16-bit scheme whose rounding all variants start from; stored: its folder, once it is written."""

    train: Artifact
    config: ModelConfig
    base: Path
    dtype: torch.dtype
    reference: str
    stored: Path | None = None
    _ready: list[Any] = field(default_factory=list)

    def open(self) -> Any:
        """The merged model in `dtype`, with the values that the 16-bit reference stores."""
        if self._ready:
            return self._ready.pop()
        if self.stored is not None:
            return load_model(self.stored, dtype=self.dtype, trust_remote_code=self.config.trust_remote_code)
        return round_to_16_bits(open_tuned(self.train, self.config, self.base, dtype=self.dtype), self.reference)

    def give_back(self, model: Any) -> None:
        """For the next `open`, where nothing was changed."""
        self._ready.append(model)


@torch.no_grad()
def round_to_16_bits(model: Any, scheme: str) -> Any:
    """Rounds the weights of `model`, in place, to what the 16-bit reference stores; all variants start from there."""
    wanted = getattr(torch, DTYPES[scheme])
    if model.dtype == torch.float32:
        for parameter in model.parameters():
            parameter.copy_(parameter.to(wanted))
    return model


@dataclass(frozen=True)
class Probe:
    """Logits of the 16-bit model on some tokens. right: [T, V] float32."""

    ids: tuple[int, ...]
    right: torch.Tensor

    @classmethod
    def of(cls, model: Any, ids: Sequence[int]) -> Probe:
        """Computes them."""
        return cls(tuple(ids), _logits(model, ids))

    def error(self, model: Any) -> float:
        """Relative distance of `model`'s logits, each position's mean taken off (softmax does not see it)."""
        return float((_logits(model, self.ids) - self.right).norm() / self.right.norm())

    def prove(self, model: Any, *, name: str, bits: float, where: Path) -> float:
        """The error of a variant that was read back. Raises QuantizeError when it is another model."""
        error = self.error(model)
        limit = next(limit for above, limit in LIMITS if bits > above)
        if not error <= limit:
            raise QuantizeError(
                f"the variant {name} computes another model when it is read back: its logits differ by {error:.2f} of "
                f"their size, the limit for {bits:.3g} bits is {limit:.2f}",
                where=str(where),
                fix=f"run again; if it stays so, leave {name} out of quantize.variants",
            )
        return error


@torch.inference_mode()
def _logits(model: Any, ids: Sequence[int]) -> torch.Tensor:
    tokens = torch.tensor([list(ids)], device=model.device)
    found: torch.Tensor = model(input_ids=tokens).logits[0].float().cpu()
    return found - found.mean(-1, keepdim=True)
