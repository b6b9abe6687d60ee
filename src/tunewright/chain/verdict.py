"""What the whole chain says: it holds, or which link breaks it and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.chain.steps import Outcome


@dataclass(frozen=True)
class Verdict:
    """broken, named: (link, reasons in one line); named ones are variants that quantize refused already."""

    broken: tuple[tuple[str, str], ...]
    named: tuple[tuple[str, str], ...]
    not_asked: tuple[tuple[str, str], ...]
    proven: str

    @property
    def holds(self) -> bool:
        """Whether every link is what it must be."""
        return not self.broken

    @property
    def sentence(self) -> str:
        """One line for a person."""
        if self.holds:
            return f"the chain holds: {self.proven}"
        return "; ".join(f"the chain breaks at '{link}': {reason}" for link, reason in self.broken)

    def to_json(self) -> dict[str, Any]:
        """For chain.json."""
        parts = {"broken": self.broken, "named": self.named, "not_asked": self.not_asked}
        listed = {name: [{"link": link, "reason": why} for link, why in found] for name, found in parts.items()}
        return {"holds": self.holds, "sentence": self.sentence, **listed}


def reach(outcomes: Sequence[Outcome]) -> Verdict:
    """From the outcomes of all steps."""
    by_status = {
        status: tuple((found.step.name, "; ".join(found.reasons)) for found in outcomes if found.status == status)
        for status in ("broken", "named", "not asked")
    }
    return Verdict(by_status["broken"], by_status["named"], by_status["not asked"], _proven(outcomes))


def _proven(outcomes: Sequence[Outcome]) -> str:
    """`adapter = merged = server`, and how close they are."""
    equal = [found for found in outcomes if found.step.claim == "equal" and found.status == "equal"]
    if not equal:
        return "nothing had to be equal"
    joined = {name for found in equal for name in (found.step.against, found.step.name)}
    names = " = ".join(found.step.name for found in outcomes if found.step.name in joined)
    largest = max((found.largest for found in equal if found.largest is not None), default=None)
    said = [] if largest is None else [f"logits differ by {largest:.2g} at most"]
    rows = sum(found.agreement.rows for found in equal if found.agreement)
    same = sum(found.agreement.same for found in equal if found.agreement)
    ties = sum(found.agreement.near_ties for found in equal if found.agreement)
    said.append(f"{same} of {rows} answers are the same" + (f", {ties} part where two tokens tie" if ties else ""))
    return f"{names}; {', '.join(said)}"
