"""One step of the chain: a link, what it is compared with and what must hold; and what came out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from tunewright.chain.agree import Agreement
from tunewright.chain.bounds import Bounds
from tunewright.chain.links import Link
from tunewright.chain.questions import Reply
from tunewright.chain.rendering import Rendering
from tunewright.chain.weights import WeightDifference
from tunewright.core.scoring import Difference, Measured, Score

Claim = Literal["start", "changes", "equal", "stored", "measured"]
"""start: nothing to compare with; changes: must differ from the one before; equal: the same within the bounds; stored:
the same weights, rounded to the stored format; measured: a loss is allowed and measured."""
Status = Literal["start", "changed", "equal", "measured", "named", "broken", "not asked"]


@dataclass(frozen=True)
class Step:
    """against: the name of an earlier step. claim: what must hold. describes: for readers. faults: found before
    anything was asked, and then nothing is; doubts: found before as well, and it is asked all the same. max_loss: of
    the task score. accepted: whether quantize accepted the variant, so that it may be served. rendering: known before
    it is asked. weights: the stored weights' difference, once `against` was asked. artifact: what a server should say
    that it serves."""

    link: Link
    claim: Claim
    against: str = ""
    describes: str = ""
    faults: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    max_loss: float | None = None
    accepted: bool = True
    rendering: Rendering | None = None
    weights: Callable[[], WeightDifference | None] | None = None
    artifact: str = ""

    @property
    def name(self) -> str:
        """The link's."""
        return self.link.name


@dataclass(frozen=True)
class Taken:
    """What a link gave. logits: [n, V] float32, None where none come out of it."""

    replies: list[Reply]
    logits: Tensor | None
    measured: Measured


@dataclass
class Outcome:
    """What is said of one step. reasons: why it is broken or named, or was not asked; each names no link by itself."""

    step: Step
    status: Status
    reasons: list[str] = field(default_factory=list)
    largest: float | None = None
    bounds: Bounds | None = None
    agreement: Agreement | None = None
    weights: WeightDifference | None = None
    score: Score | None = None
    difference: Difference | None = None
    rendering: Rendering | None = None
    examples: list[dict[str, str]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """One entry of `links` in chain.json."""
        bound = self.bounds.logits if self.bounds and self.step.claim == "equal" else None
        return {
            "link": self.step.name,
            "system": self.step.describes,
            "against": self.step.against or None,
            "claim": self.step.claim,
            "status": self.status,
            "reasons": self.reasons,
            "logits": None if self.largest is None else {"largest": self.largest, "bound": bound},
            "answers": self.agreement.to_json() if self.agreement else None,
            "weights": self.weights.to_json() if self.weights else None,
            "score": self.score.model_dump() if self.score else None,
            "difference": self.difference.model_dump() if self.difference else None,
            "rendering": self.rendering.to_json() if self.rendering else None,
            "examples": self.examples,
        }
