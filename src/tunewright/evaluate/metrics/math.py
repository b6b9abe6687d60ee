"""Word problems: is the final answer right, which steps of the reference are found, do the written equations hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np

from tunewright.core.scoring import Measured, Sample, mean_of_rows
from tunewright.core.text.answers.agree import agree
from tunewright.core.text.answers.equations import Equation, equations
from tunewright.core.text.answers.phrasing import Answer, final_answer
from tunewright.core.text.answers.select import Question
from tunewright.core.text.answers.steps import completeness, stated_values, step_results
from tunewright.evaluate.metrics.characters import comparable
from tunewright.evaluate.metrics.counts import expected, rate, ratio
from tunewright.evaluate.metrics.options import MathOptions
from tunewright.evaluate.rows import applying, matches

VERSION = 1
SIGNATURE = "compared:rationals,1e-6|95%=0.95,=95 where the reference has no %"
REMEMBERED = 1 << 15
"""Texts read once although they are scored twice, against their own and against another row's reference."""


@dataclass(frozen=True)
class Marked:
    """One answer against its reference. steps: share found, None where the reference shows no calculation."""

    correct: bool
    answer: Answer | None
    wanted: str
    is_number: bool
    steps: float | None
    equations: tuple[Equation, ...]

    @property
    def wrong_equation(self) -> str | None:
        """The earliest written equation that does not hold."""
        return next((equation.text for equation in self.equations if not equation.holds), None)


class Math:
    """`math.accuracy`, `math.step_completeness` (where a reference shows calculations), `math.arithmetic_valid` (share
    of written equations that hold, 1 where none is written), `math.unparseable` (no final answer); 0 to 1."""

    def __init__(self, options: MathOptions) -> None:
        self.options = options

    @staticmethod
    def metric_keys(options: MathOptions) -> list[str]:
        """Flat keys that `measure` produces."""
        return ["math.accuracy", "math.step_completeness", "math.arithmetic_valid", "math.unparseable"]

    def applies(self, metadata: Mapping[str, Any]) -> bool:
        """Whether a row with this metadata is scored."""
        return matches(metadata, self.options.where)

    def measure(self, samples: Sequence[Sample]) -> list[Measured]:
        """Scores the samples that apply; none at all gives an empty list. An answer without a number is wrong, and so
        is one that offers several."""
        marked = [self.mark(sample) for sample in applying(samples, self.applies)]
        if not marked:
            return []
        missing = [mark.answer is None for mark in marked]
        texts = sum(not mark.is_number for mark in marked)
        written = sum(len(mark.equations) for mark in marked)
        signature = f"{SIGNATURE}|unparseable:{sum(missing)}|references without a number:{texts}"
        valid = [(float(sum(e.holds for e in mark.equations)), float(len(mark.equations))) for mark in marked]
        steps = np.array([mark.steps for mark in marked if mark.steps is not None], dtype=float)
        found = [rate("math.accuracy", VERSION, [mark.correct for mark in marked], signature=signature)]
        if len(steps):
            note = f"{SIGNATURE}|references without steps:{len(marked) - len(steps)}"
            found.append(Measured("math.step_completeness", VERSION, steps[:, None], mean_of_rows, signature=note))
        found.append(ratio("math.arithmetic_valid", VERSION, valid, signature=f"written equations:{written}"))
        found.append(rate("math.unparseable", VERSION, missing, signature=signature, higher_is_better=False))
        return found

    def explain(self, samples: Sequence[Sample]) -> list[dict[str, Any] | None]:
        """For each sample what was read and what is wrong; None where the metric does not apply."""
        return [self._explained(sample) if self.applies(sample.metadata) else None for sample in samples]

    def _explained(self, sample: Sample) -> dict[str, Any]:
        mark = self.mark(sample)
        return {
            "correct": mark.correct,
            "answer": None if mark.answer is None else str(mark.answer),
            "wanted": mark.wanted,
            "step_completeness": mark.steps,
            "wrong_equation": mark.wrong_equation,
        }

    def mark(self, sample: Sample) -> Marked:
        """One row. A reference without a number is compared as text."""
        text = str(expected(sample, self.options.answer))
        reference = read_reference(text)
        answer = _read(sample.prediction, sample.prompt)
        if reference is None:
            correct = bool(comparable(text)) and comparable(sample.prediction) == comparable(text)
        else:
            correct = answer is not None and agree(answer, reference)
        wanted = _steps(sample.reference)
        return Marked(
            correct=correct,
            answer=answer,
            wanted=comparable(text) if reference is None else str(reference),
            is_number=reference is not None,
            steps=completeness(wanted, _stated(sample.prediction)) if wanted else None,
            equations=_equations(sample.prediction),
        )


@lru_cache(maxsize=REMEMBERED)
def read_reference(text: str) -> Answer | None:
    """The final answer that a reference states."""
    return final_answer(text)


def _read(prediction: str, prompt: str) -> Answer | None:
    answer, needs_prompt = _read_alone(prediction)
    return final_answer(prediction, prompt) if needs_prompt else answer


@lru_cache(maxsize=REMEMBERED)
def _read_alone(prediction: str) -> tuple[Answer | None, bool]:
    """The final answer, and whether it depends on what was asked."""
    question = Question()
    return final_answer(prediction, question), question.is_needed


@lru_cache(maxsize=REMEMBERED)
def _steps(reference: str) -> tuple[Fraction, ...]:
    return tuple(step_results(reference))


@lru_cache(maxsize=REMEMBERED)
def _stated(prediction: str) -> frozenset[Fraction]:
    return stated_values(prediction)


@lru_cache(maxsize=REMEMBERED)
def _equations(prediction: str) -> tuple[Equation, ...]:
    return tuple(equations(prediction))
