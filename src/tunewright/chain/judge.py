"""What a step's numbers mean: equal, measured, or broken and why."""

from __future__ import annotations

from tunewright.chain.bounds import Bounds
from tunewright.chain.rendering import Rendering, faults
from tunewright.chain.steps import Outcome
from tunewright.core.scoring import Difference, Measured

NOTHING_SAME, NOTHING_BEGUN_ALIKE = 0.05, 0.1
"""Shares of equal answers and of equal tokens below which two systems have nothing in common."""


def decide(found: Outcome, *, trained: Rendering, measured: Measured, limits: Bounds | None, causes: list[str]) -> None:
    """Sets status and reasons of an outcome whose numbers are there. causes: what was found out about a server."""
    claim, step = found.step.claim, found.step
    if claim == "changes":
        found.status, reasons = "changed", _unchanged(found)
    elif claim == "measured":
        found.status, reasons = "measured", [*_lost(found, measured), *causes]
    elif claim == "stored":
        found.status, reasons = "equal", [*_other_weights(found), *_lost(found, measured)]
    else:
        found.status, reasons = "equal", [*_unequal(found, limits), *causes]
    if step.rendering is not None:
        reasons += [f"it {fault}" for fault in faults(trained, step.rendering)]
    found.reasons = reasons = [*reasons, *step.doubts]
    if reasons:
        found.status = "broken" if step.accepted else "named"


def _unchanged(found: Outcome) -> list[str]:
    return [f"it changes nothing: every logit is that of {found.step.against}"] if found.largest == 0 else []


def _lost(found: Outcome, measured: Measured) -> list[str]:
    """A variant may lose; it may not be another model, nor is it shown to lose more than its limit."""
    agreement, limit, reasons = found.agreement, found.step.max_loss, []
    assert agreement is not None
    if agreement.same < NOTHING_SAME * agreement.rows and agreement.equal_tokens < NOTHING_BEGUN_ALIKE:
        reasons.append(
            f"its answers have nothing in common with those of {found.step.against}: {agreement.same} of "
            f"{agreement.rows} are the same, as if it were made from another training"
        )
    least = _least_loss(found.difference, measured) if found.difference else 0.0
    if limit is not None and least > limit:
        reasons.append(f"it loses at least {least:.3f} of {measured.metric}, its max_loss is {limit:g}")
    return reasons


def _least_loss(difference: Difference, measured: Measured) -> float:
    """The smallest loss that the 95 % interval leaves, as a share of the whole scale."""
    least = -difference.high if measured.higher_is_better else difference.low
    return least / 100 if measured.unit == "points" else least


def _other_weights(found: Outcome) -> list[str]:
    weights = found.weights
    if weights is None or not weights.worst:
        return []
    return [
        f"its stored weights are not those of {found.step.against}: {weights.worst} differs in {weights.places} "
        f"places by up to {weights.largest:.3g}"
    ]


def _unequal(found: Outcome, limits: Bounds | None) -> list[str]:
    agreement, other, reasons = found.agreement, found.step.against, []
    assert agreement is not None
    if limits is not None and found.largest is not None and found.largest > limits.logits:
        reasons.append(
            f"its logits differ from those of {other} by {found.largest:.3g}, the bound is {limits.logits:.2g}"
        )
    if agreement.different:
        reasons.append(f"it answers differently from {other}: {len(agreement.different)} of {agreement.rows} rows")
    return reasons
