"""The way to an answer: which of the reference's intermediate results a solution reaches."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fractions import Fraction
from functools import partial

from tunewright.core.text.answers.agree import near
from tunewright.core.text.answers.context import quantities
from tunewright.core.text.answers.equations import calculator_results, equations
from tunewright.core.text.answers.plain import plain


def step_results(reference: str) -> list[Fraction]:
    """The results of the reference's calculations, each value once, in order: gsm8k's notes where it has them, else
    its written equations. Empty for a reference that is only an answer."""
    found = calculator_results(reference) or [equation.result for equation in equations(reference)]
    return list(dict.fromkeys(found))


def stated_values(text: str) -> frozenset[Fraction]:
    """Every value that a solution states; 95% is both 0.95 and 95."""
    numbers = quantities(plain(text))
    values = {number.value / 100 if number.percent else number.value for number in numbers}
    values |= {number.value for number in numbers if number.percent}
    return frozenset(values.union(calculator_results(text)))


def completeness(wanted: Sequence[Fraction], stated: Collection[Fraction]) -> float:
    """Share of the wanted results (at least one) among the stated values, 0 to 1."""
    return sum(value in stated or any(map(partial(near, value), stated)) for value in wanted) / len(wanted)
