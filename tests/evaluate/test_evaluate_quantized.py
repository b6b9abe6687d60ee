"""Gates on quantized variants: the same rows, the base's answers, a reason with numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tunewright.core.errors import ConfigError
from tunewright.core.scoring import Measured, Sample, mean_of_rows
from tunewright.evaluate.config import EvaluateConfig
from tunewright.evaluate.quantized import judge, samples_of

GATE = {"metric": "intent.accuracy", "when": ">= base + 0.05", "significant": True, "on": ["quantized"]}


def config(**gate: object) -> EvaluateConfig:
    return EvaluateConfig.model_validate({"gates": [GATE | gate]})


def exact(samples: Sequence[Sample]) -> Measured:
    hits = np.array([[float(sample.prediction == sample.reference)] for sample in samples])
    return Measured("intent.accuracy", 1, hits, mean_of_rows, yes_no=True)


def answers(right: int, n: int = 40, start: int = 0) -> list[Sample]:
    return [
        Sample(id=f"r{start + i}", prompt="q", reference="x", prediction="x" if i < right else "y") for i in range(n)
    ]


BASE = {sample.id: sample for sample in answers(10)}


def test_a_variant_as_good_as_it_must_be_is_not_refused() -> None:
    decide = judge(config(), exact, BASE, seed=7)
    assert decide is not None
    assert decide(answers(30)) == ""


@pytest.mark.parametrize(
    ("right", "reason"),
    [(11, "not >= 0.3 (base 0.25 + 0.05)"), (12, "a difference from base is not shown")],
    ids=["too low", "not shown"],
)
def test_a_variant_below_the_gate_is_refused_with_the_numbers(right: int, reason: str) -> None:
    """12 of 40 is base + 0.05 exactly, but 2 gained against none lost has p 0.5."""
    decide = judge(config(), exact, BASE, seed=7)
    assert decide is not None
    assert reason in decide(answers(right))


def test_only_rows_that_both_answered_count() -> None:
    decide = judge(config(), exact, BASE, seed=7)
    assert decide is not None
    assert decide([*answers(30), *answers(0, start=100)]) == ""
    assert "no row was answered by both" in decide(answers(40, start=100))


def test_without_such_a_gate_there_is_no_judge_and_another_metric_is_refused() -> None:
    assert judge(config(on=["tuned"]), exact, BASE, seed=7) is None
    with pytest.raises(ConfigError, match=r"needs the primary metric 'intent\.accuracy', not 'bleu'"):
        judge(config(metric="bleu"), exact, BASE, seed=7)


def test_base_answers_come_from_samples() -> None:
    row = {"id": "a", "prompt": "p", "reference": "r", "base": "b", "tuned": "t", "metadata": {"k": 1}}
    assert samples_of([row], "base")["a"].prediction == "b"
    assert samples_of([row], "promoted") == {}, "a model that was not asked has no answers"


def test_a_gate_on_the_promoted_model_uses_its_answers_or_the_base() -> None:
    """14 of 40 are above the base's 10 and below the promoted model's 20."""
    gate = config(when=">= promoted", significant=False)
    promoted = {sample.id: sample for sample in answers(20)}
    decide = judge(gate, exact, BASE, seed=7, promoted=promoted)
    assert decide is not None
    assert "intent.accuracy is 0.35 [0.2213, 0.5049], not >= 0.5 (promoted 0.5)" in decide(answers(14))
    assert decide(answers(20)) == ""
    alone = judge(gate, exact, BASE, seed=7)
    assert alone is not None
    assert alone(answers(14)) == "" and "the base stands in" in alone(answers(9))
