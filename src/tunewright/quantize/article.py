"""What the article promises of quantization, beside what was measured here and what a 7B model's shapes say.

The article (fine-tuning large models for dialogue, its quantization table for deepseek-llm-7b-chat) gives INT8 7.5 of
14 GB, 22 % faster, below 1 % loss; INT4 3.8 GB, 45 % faster, 3 to 5 % loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunewright.quantize.scheme import Scheme
from tunewright.quantize.shapes import DEEPSEEK_7B

TARGET = "deepseek-llm-7b-chat"
GIGABYTE = 1e9


@dataclass(frozen=True)
class Claim:
    """The article's row, in words."""

    label: str
    size: str
    effect: str


CLAIMS = {
    16: Claim("FP16", "14 GB", ""),
    8: Claim("INT8", "7.5 of 14 GB", "+22 % speed, < 1 % loss"),
    4: Claim("INT4", "3.8 of 14 GB", "+45 % speed, 3-5 % loss"),
}


def target_bytes(scheme: Scheme) -> int:
    """Predicted size of this format of the 7B target; nothing is loaded."""
    return scheme.predicted_bytes(DEEPSEEK_7B)


def beside(row: Mapping[str, Any], reference: Mapping[str, Any], *, bits: float, target: int) -> str:
    """One line: the article's figures, those of `row` (of table.json), and the 7B target's predicted size."""
    claim = CLAIMS[16 if bits > 12 else 8 if bits > 6 else 4]
    theirs = ", ".join(part for part in (claim.size, claim.effect) if part)
    whole = 2 * DEEPSEEK_7B.weights / GIGABYTE
    shapes = f"{TARGET} by its shapes {target / GIGABYTE:.2f} of {whole:.2f} GB"
    if row is reference:
        return f"article, {claim.label}: {theirs}; {shapes}"
    faster = row["tokens_per_second"] / max(reference["tokens_per_second"], 1e-9) - 1
    ours = f"{row['ratio']:.2f} of the bytes, {100 * faster:+.0f} % speed, score {row['task_change']:+.3f}"
    return f"article, {claim.label}: {theirs}; here {ours} (p {row['task_p']:.2g}); {shapes}"
