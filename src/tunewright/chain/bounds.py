"""How far two links that must be equal may be apart, from the number format and from noise measured on the spot.

The same numbers summed in another order differ in their last digits, and merging an adapter is another order. In
float32 that was 1.1e-4 at most on the built-in 135M model (largest logit 35), so 1e-3 leaves room for larger models. In
bfloat16 every product is rounded to 8 bits: adapter beside the base against merged was 0.6 to 1.1 there, up to 1/33 of
the largest logit, and the merged model against itself, batched and alone, 0.5 to 0.75 (docs/guides/chain.md). A fixed
number would be wrong for the next model, so the reference is compared with itself first and its noise widens the bound.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

NOISE_ROWS = 8
"""Prompts on which the noise is measured: computed together and one by one."""
FLOAT32 = (1e-3, 2e-3)
"""(largest logit difference, largest gap of a near tie) in float32; a difference of two logits has twice the error."""
SHARES = {"bfloat16": (1 / 32, 1 / 64), "float16": (1 / 256, 1 / 512)}
"""The same for 16-bit formats as a share of the largest logit: float16 has three more bits than bfloat16."""
TIMES_LARGEST = 4.0
TIMES_RMS = 10.0
"""Seven standard deviations of a difference of two logits: an answer that turns on less than that is a coin's toss."""


@dataclass(frozen=True)
class Bounds:
    """logits: largest absolute difference; tie: two tokens whose logits are closer than this count as equally good;
    noise, noise_rms: of the reference against itself; scale: its largest absolute logit."""

    dtype: str
    logits: float
    tie: float
    noise: float
    noise_rms: float
    scale: float

    def to_json(self) -> dict[str, Any]:
        """For chain.json."""
        return {**asdict(self), "reason": self.sentence()}

    def sentence(self) -> str:
        """The bound and where it comes from, in one sentence."""
        return (
            f"{self.dtype}: logits may differ by {self.logits:.2g}, and an answer only where the two best tokens are "
            f"closer than {self.tie:.2g}; the reference differs from itself by up to {self.noise:.2g} when its rows "
            f"are computed alone, its largest logit is {self.scale:.3g}"
        )


def measured(dtype: str, *, together: Tensor, alone: Tensor, scale: float) -> Bounds:
    """together, alone: [n, V], the reference's logits after the same sequences, computed in two ways."""
    apart = (together - alone).abs()
    noise, rms = float(apart.max()), float(apart.pow(2).mean().sqrt())
    least = FLOAT32
    if dtype in SHARES:
        least = (SHARES[dtype][0] * scale, SHARES[dtype][1] * scale)
    return Bounds(dtype, max(least[0], TIMES_LARGEST * noise), max(least[1], TIMES_RMS * rms), noise, rms, scale)
