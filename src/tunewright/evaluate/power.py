"""Power: the smallest difference that so many test rows can show, and the rows that a smaller one would need.

A difference counts as showable when it is found at p < 0.05 (two-sided) with a chance of 80 %.
Sources: Miettinen 1968 (Biometrics 24, 339) and Connor 1987 (Biometrics 43, 207) for pairs of yes/no answers; the usual
normal approximation for means of paired differences; Popoviciu 1935 for the largest variance of a bounded value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from tunewright.core.errors import ConfigError
from tunewright.core.scoring import Z_95
from tunewright.evaluate.config import GATE, Gate

ALPHA = 0.05
POWER = 0.8
Z_POWER = 0.8416212335729143
"""The normal quantile of POWER."""
WORST_DISCORDANCE = 0.5
"""Two systems whose answers have nothing to do with each other differ on 2 q (1 - q) of the rows, at most 0.5."""
FEWEST_DISCORDANT = 6
"""The exact McNemar test cannot give p < 0.05 on fewer: 2 / 2**6 = 0.031, 2 / 2**5 = 0.063."""
_STEPS = 60


@dataclass(frozen=True)
class Known:
    """What is known of a metric before the run. n: rows, or repeats where lines have no partner.

    scale: the largest possible difference, infinite where there is none; lost: the share of rows that the tuned model
    may lose, from an earlier run; sd: of the paired difference of one row, from an earlier run; base: the base's
    earlier score; source: where these come from, empty when they are assumed.
    """

    metric: str
    kind: Literal["yes/no", "mean", "unpaired"]
    n: int
    scale: float = 1.0
    unit: str = ""
    lost: float | None = None
    sd: float | None = None
    base: float | None = None
    source: str = ""


class Statement(BaseModel):
    """What can be shown of one metric; `smallest` is None where nothing can be said before a first run, infinite where
    no difference can ever be shown (stored as null with `never`)."""

    model_config = ConfigDict(frozen=True)

    metric: str
    n: int
    smallest: float | None
    never: bool = False
    basis: str

    def text(self) -> str:
        """One sentence."""
        if self.never:
            return f"{self.metric}: {self.n} measurements can never show a difference ({self.basis})"
        if self.smallest is None:
            return f"{self.metric}: what {self.n} rows can show is not known before a first run"
        return f"{self.metric}: {self.n} rows can show a difference of {self.smallest:.3g} or more ({self.basis})"


def smallest(known: Known) -> float | None:
    """The smallest difference that `known.n` rows can show; infinite when none can be, None when it is not known."""
    if known.kind == "unpaired":
        return None if _permutation_p(known.n) < ALPHA else math.inf
    if known.kind == "yes/no":
        return _root(known)
    sd = _sd(known)
    return None if sd is None else (Z_95 + Z_POWER) * sd / math.sqrt(known.n) if known.n else math.inf


def needed(known: Known, margin: float) -> int | None:
    """Rows (or repeats) that show a difference of `margin`; None when it is not known."""
    if known.kind == "unpaired":
        return next(n for n in range(1, 100) if _permutation_p(n) < ALPHA)
    if known.kind == "yes/no":
        return max(math.ceil(_mcnemar_rows(known, margin)), math.ceil(FEWEST_DISCORDANT / margin))
    sd = _sd(known)
    return None if sd is None else math.ceil(((Z_95 + Z_POWER) * sd / margin) ** 2)


def _mcnemar_rows(known: Known, margin: float) -> float:
    """Connor's n = (z_a sqrt(d) + z_b sqrt(d - m^2))^2 / m^2 for discordance d and difference m."""
    d = _discordance(known, margin)
    return ((Z_95 * math.sqrt(d) + Z_POWER * math.sqrt(max(0.0, d - margin**2))) / margin) ** 2


def _discordance(known: Known, margin: float) -> float:
    """The share of rows on which the systems differ, when `margin` more are gained than lost: 2 lost + margin."""
    assumed = WORST_DISCORDANCE if known.lost is None else 2 * known.lost + margin
    return min(1.0, max(assumed, margin))


def _root(known: Known) -> float:
    """The margin whose needed rows are `known.n`: they fall as it grows, so it is found by halving."""
    if known.n < FEWEST_DISCORDANT:
        return math.inf
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if _mcnemar_rows(known, middle) <= known.n else (middle, high)
    return max(high, FEWEST_DISCORDANT / known.n)


def _sd(known: Known) -> float | None:
    """Of one row's difference. Assumed at worst: each value has the variance scale^2 / 4 (Popoviciu), and the two
    systems are independent."""
    if known.sd is not None:
        return known.sd
    return known.scale * math.sqrt(0.5) if math.isfinite(known.scale) else None


def _permutation_p(repeats: int) -> float:
    """The smallest two-sided p of an exact permutation test of two times `repeats` values."""
    return 2 / math.comb(2 * repeats, repeats) if repeats else 1.0


def statement(known: Known) -> Statement:
    """What is said and stored before the run."""
    found = smallest(known)
    never = found is not None and math.isinf(found)
    return Statement(
        metric=known.metric,
        n=known.n,
        smallest=None if found is None or never else round(found, 6),
        never=never,
        basis=_basis(known),
    )


def _basis(known: Known) -> str:
    chance = f"{POWER:.0%} power at p < {ALPHA:g}"
    if known.kind == "unpaired":
        return f"an exact permutation test reaches p {_permutation_p(known.n):.2g} at best"
    if known.source:
        return f"{chance}, spread as in {known.source}"
    differing = f"the systems differ on {WORST_DISCORDANCE:.0%} of the answers"
    return f"{chance}, assuming the worst: {differing if known.kind == 'yes/no' else 'the largest possible spread'}"


def margin_of(gate: Gate, known: Known) -> float | None:
    """The difference that a gate asks for, at most; None where it names none, such as `>= base` or `>= base - 0.02`."""
    match = GATE.fullmatch(gate.when)
    assert match, gate.when  # the config refuses anything else
    comparison, relative, sign, amount, number = match.groups()
    direction = 1 if comparison.startswith(">") else -1
    if number:
        change = None if known.base is None else float(number) - known.base
    elif sign == "*":
        of = known.base if relative == "base" and known.base is not None else known.scale
        change = (float(amount) - 1) * of
    else:
        change = float(amount) * (-1 if sign == "-" else 1) if sign else 0.0
    return change * direction if change is not None and change * direction > 0 else None


def check(gates: Sequence[Gate], known: Sequence[Known], *, on: Literal["tuned", "quantized"]) -> list[str]:
    """Sentences of significant gates that so few rows cannot decide and that only warn.

    Raises ConfigError that lists every other one, with the rows it would need.
    """
    by_metric = {entry.metric: entry for entry in known}
    refused, warnings = [], []
    for index, gate in enumerate(gates):
        problem = _problem(gate, by_metric[gate.metric]) if on in gate.on and gate.metric in by_metric else ""
        if problem and gate.undecidable == "warn":
            warnings.append(problem)
        elif problem:
            refused.append(f"evaluate.gates.{index}: {problem}")
    if refused:
        raise ConfigError(
            "\n".join(refused),
            fix="add test rows, name a larger margin, drop `significant`, or set `undecidable: warn` in the gate; "
            "after a first evaluation its own spread counts instead of the worst one",
        )
    return warnings


def _problem(gate: Gate, known: Known) -> str:
    """Why a gate cannot be decided; empty when it can, or when nothing is known."""
    if not gate.significant:
        return ""
    found, margin = smallest(known), margin_of(gate, known)
    condition = f"`{gate.metric} {gate.when.strip()}`"
    if found is not None and math.isinf(found):
        return f"{condition} cannot be decided: {known.n} measurements never show a difference, {_least(known)} can"
    if found is None or margin is None or margin >= found or not math.isfinite(margin):
        return ""
    return (
        f"{condition} cannot be decided: {known.n} rows can show a difference of {found:.3g} or more "
        f"({_basis(known)}); a margin of {margin:.3g} needs {needed(known, margin):,} rows"
    )


def _least(known: Known) -> int:
    return FEWEST_DISCORDANT if known.kind == "yes/no" else needed(known, 1.0) or 1
