"""Gates: conditions a model must meet, decided with the numbers in the sentence."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from tunewright.core.errors import GateError
from tunewright.core.scoring import Difference, Score
from tunewright.evaluate.config import GATE, Gate

SIGNIFICANT = 0.05
TOLERANCE = 1e-9
"""0.80 + 0.05 is 0.8500000000000001 in binary: equal within this counts as equal."""
_COMPARE = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul}


class GateResult(BaseModel):
    """A decided gate; `reason` is one sentence with the numbers."""

    model_config = ConfigDict(frozen=True)

    metric: str
    when: str
    on: tuple[Literal["tuned", "quantized"], ...]
    significant: bool
    passed: bool
    reason: str


def decide(gate: Gate, *, score: Score, base: Score, difference: Difference | None) -> GateResult:
    """Whether `score` meets the gate. `difference` is score minus base on the same rows, where it was measured.

    With `significant` the difference must also be shown (p < 0.05) in the direction of the comparison; without a
    measured difference such a gate fails.
    """
    holds, compared = _condition(gate.when, score.value, base.value)
    shown, evidence = _evidence(gate, difference) if gate.significant else (True, "")
    return GateResult(
        metric=gate.metric,
        when=gate.when,
        on=gate.on,
        significant=gate.significant,
        passed=holds and shown,
        reason=f"{gate.metric} is {score.value:.4g} [{score.low:.4g}, {score.high:.4g}], {compared}{evidence}",
    )


def _condition(when: str, value: float, base: float) -> tuple[bool, str]:
    match = GATE.fullmatch(when)
    assert match, when  # the config refuses anything else
    comparison, is_relative, sign, amount, number = match.groups()
    threshold = float(number) if number else base
    if is_relative and sign:
        threshold = _ARITHMETIC[sign](base, float(amount))
    nearest = threshold if abs(value - threshold) <= TOLERANCE * max(1.0, abs(threshold)) else value
    holds = bool(_COMPARE[comparison](nearest, threshold))
    origin = f" (base {base:.4g}{f' {sign} {amount}' if sign else ''})" if is_relative else ""
    return holds, f"{'' if holds else 'not '}{comparison} {threshold:.4g}{origin}"


def _evidence(gate: Gate, difference: Difference | None) -> tuple[bool, str]:
    if difference is None:
        return False, "; no difference from base was measured on the same rows"
    wants_more = gate.when.strip().startswith(">")
    shown = difference.p < SIGNIFICANT and (difference.difference > 0) == wants_more and difference.difference != 0
    numbers = f"{difference.difference:+.4g}, p {difference.p:.3g}, n {difference.n}"
    return shown, f"; a difference from base is {'' if shown else 'not '}shown ({numbers}, {difference.test})"


def require(results: Sequence[GateResult], *, where: str) -> None:
    """Raises GateError that lists every gate which did not pass."""
    failed = [result for result in results if not result.passed]
    if failed:
        sentences = "\n".join(f"  gate '{result.metric} {result.when}': {result.reason}" for result in failed)
        raise GateError(
            f"{len(failed)} of {len(results)} gates did not pass\n{sentences}",
            where=where,
            fix="read samples.jsonl there; train longer, on more data, or change the gate in the project file",
        )
