"""What a project writes: checkpoints while it trains, what is kept, and the variants."""

from __future__ import annotations

from dataclasses import dataclass

from tunewright.pipeline import BYTES_A_WEIGHT
from tunewright.plan.alternatives import Alternative
from tunewright.project import ProjectConfig

STATE_COPIES = 3
"""A checkpoint holds the trained weights and AdamW's two moments of them."""


@dataclass(frozen=True)
class Disk:
    """Bytes. checkpoints: the most there are at once: those kept, the best one, and the one being written."""

    checkpoints: int
    trained: int
    variants: int

    @property
    def bytes(self) -> int:
        """All of it."""
        return self.checkpoints + self.trained + self.variants


def disk_of(project: ProjectConfig | None, chosen: Alternative) -> Disk:
    """For the training as `chosen`; the variants are those of the project."""
    need, settings = chosen.need, chosen.settings
    gradients = need.gradients or 4 * need.trained
    whole = settings.method.name in ("full", "freeze")
    at_once = settings.keep_checkpoints + 2
    copies = gradients * STATE_COPIES
    if settings.method.name == "freeze":  # the frozen weights are saved as well
        copies += need.weights
    variants = project.quantize.variants if project else ()
    return Disk(
        checkpoints=at_once * copies,
        trained=2 * (need.total if whole else need.trained),
        variants=round(need.total * sum(BYTES_A_WEIGHT.get(variant.name, 2.0) for variant in variants)),
    )
