"""Gates: conditions a model must meet, decided with the numbers in the sentence."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from tunewright.core.errors import GateError
from tunewright.core.scoring import Difference, Score
from tunewright.evaluate.config import GATE, Gate

SIGNIFICANT = 0.05
TOLERANCE = 1e-9
"""0.80 + 0.05 is 0.8500000000000001 in binary: equal within this counts as equal."""
STAND_IN = "nothing is promoted yet, so the base stands in"
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

    @property
    def condition(self) -> str:
        """`intent.accuracy >= base + 0.05`."""
        return f"{self.metric} {self.when.strip()}"


@dataclass(frozen=True)
class Against:
    """The system that a gate compares with. difference: judged score minus this one on the same rows, where it was
    measured; p: its p value after the correction for several metrics, by default the measured one."""

    score: Score
    difference: Difference | None = None
    p: float | None = None


def decide(gate: Gate, *, score: Score, base: Against, promoted: Against | None = None) -> GateResult:
    """Whether `score` meets the gate. promoted: None as long as nothing is promoted; the base then stands in for it.

    With `significant` the difference must also be shown (p < 0.05) in the direction of the comparison; without a
    measured difference such a gate fails.
    """
    stands_in = gate.names_promoted and promoted is None
    other, name = (promoted, "promoted") if gate.names_promoted and promoted else (base, "base")
    holds, compared = _condition(gate.when, score.value, other.score.value, name)
    shown, evidence = _evidence(gate, other, name) if gate.significant else (True, "")
    note = f"; {STAND_IN}" if stands_in else ""
    sentence = f"{gate.metric} is {score.value:.4g} [{score.low:.4g}, {score.high:.4g}], {compared}{evidence}{note}"
    return _result(gate, passed=holds and shown, reason=sentence)


def undecided(gate: Gate) -> GateResult:
    """A gate on a metric that no row was measured by: it does not pass."""
    return _result(gate, passed=False, reason=f"{gate.metric} was measured on no row, so the gate cannot be decided")


def _result(gate: Gate, *, passed: bool, reason: str) -> GateResult:
    return GateResult(
        metric=gate.metric, when=gate.when, on=gate.on, significant=gate.significant, passed=passed, reason=reason
    )


def _condition(when: str, value: float, other: float, name: str) -> tuple[bool, str]:
    match = GATE.fullmatch(when)
    assert match, when  # the config refuses anything else
    comparison, is_relative, sign, amount, number = match.groups()
    threshold = float(number) if number else other
    if is_relative and sign:
        threshold = _ARITHMETIC[sign](other, float(amount))
    nearest = threshold if abs(value - threshold) <= TOLERANCE * max(1.0, abs(threshold)) else value
    holds = bool(_COMPARE[comparison](nearest, threshold))
    origin = f" ({name} {other:.4g}{f' {sign} {amount}' if sign else ''})" if is_relative else ""
    return holds, f"{'' if holds else 'not '}{comparison} {threshold:.4g}{origin}"


def _evidence(gate: Gate, other: Against, name: str) -> tuple[bool, str]:
    difference = other.difference
    if difference is None:
        return False, f"; no difference from {name} was measured on the same rows"
    p = difference.p if other.p is None else other.p
    wants_more = gate.when.strip().startswith(">")
    shown = p < SIGNIFICANT and (difference.difference > 0) == wants_more and difference.difference != 0
    corrected = f", {p:.3g} after Holm" if p != difference.p else ""
    numbers = f"{difference.difference:+.4g}, p {difference.p:.3g}{corrected}, n {difference.n}"
    return shown, f"; a difference from {name} is {'' if shown else 'not '}shown ({numbers}, {difference.test})"


def require(results: Sequence[GateResult], *, folder: Path) -> None:
    """Raises GateError that lists every gate which did not pass. folder: the sealed artifact."""
    failed = [result for result in results if not result.passed]
    if failed:
        sentences = "\n".join(f"  gate '{result.metric} {result.when}': {result.reason}" for result in failed)
        raise GateError(
            f"{len(failed)} of {len(results)} gates did not pass\n{sentences}",
            where=str(folder),
            folder=folder,
            fix="read samples.jsonl there; train longer, on more data, or change the gate in the project file",
        )
