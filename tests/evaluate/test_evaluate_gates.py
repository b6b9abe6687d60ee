"""Gates: the grammar, the decision, the sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunewright.core.errors import ConfigError, GateError
from tunewright.core.scoring import Difference, Score
from tunewright.evaluate.config import EvaluateConfig, Gate
from tunewright.evaluate.gates import STAND_IN, Against, decide, require
from tunewright.evaluate.scorer import check_keys, known_keys


def _score(value: float) -> Score:
    return Score(metric="m", version=1, value=value, low=value - 0.1, high=value + 0.1, n=50)


def _difference(value: float, p: float) -> Difference:
    return Difference(metric="m", difference=value, low=value - 0.1, high=value + 0.1, p=p, test="McNemar", n=50)


@pytest.mark.parametrize(
    ("when", "value", "base", "passed"),
    [
        (">= 0.8", 0.8, 0.1, True),
        (">= 0.8", 0.7999, 0.1, False),
        ("> 0.8", 0.8, 0.1, False),
        ("<= 2", 2.0, 9.0, True),
        ("< 2", 2.0, 9.0, False),
        ("< 2", 1.9, 9.0, True),
        (">= -1", -0.5, 9.0, True),
        (">= base", 0.5, 0.5, True),
        ("> base", 0.5, 0.5, False),
        (">= base + 0.05", 0.85, 0.80, True),  # 0.80 + 0.05 is above 0.85 in binary
        (">= base + 0.05", 0.84, 0.80, False),
        (">= base - 0.05", 0.76, 0.80, True),
        ("<= base * 1.1", 2.2, 2.0, True),
        ("<= base * 1.1", 2.3, 2.0, False),
        ("<=base*1.1", 2.2, 2.0, True),
    ],
)
def test_conditions(when: str, value: float, base: float, passed: bool) -> None:
    result = decide(Gate(metric="m", when=when), score=_score(value), base=Against(_score(base)))
    assert result.passed is passed, result.reason


@pytest.mark.parametrize(
    ("when", "difference", "passed"),
    [
        (">= base", _difference(0.3, 0.01), True),
        (">= base", _difference(0.3, 0.05), False),
        (">= base", _difference(-0.3, 0.01), False),
        ("<= base * 2", _difference(-0.3, 0.01), True),
        ("<= base * 2", _difference(0.3, 0.01), False),
        (">= base", None, False),
    ],
)
def test_significance_needs_p_and_direction(when: str, difference: Difference | None, passed: bool) -> None:
    gate = Gate(metric="m", when=when, significant=True)
    assert decide(gate, score=_score(0.5), base=Against(_score(0.5), difference)).passed is passed


def test_a_gate_on_the_promoted_model_and_its_stand_in() -> None:
    gate = Gate(metric="m", when="<= promoted * 1.1")
    base, promoted = Against(_score(0.5)), Against(_score(0.2))
    assert decide(gate, score=_score(0.21), base=base, promoted=promoted).passed
    slower = decide(gate, score=_score(0.23), base=base, promoted=promoted)
    assert not slower.passed and "not <= 0.22 (promoted 0.2 * 1.1)" in slower.reason
    first = decide(gate, score=_score(0.23), base=base)
    assert first.passed and first.reason.endswith(f"<= 0.55 (base 0.5 * 1.1); {STAND_IN}")


def test_the_corrected_p_value_counts_and_is_shown() -> None:
    gate = Gate(metric="m", when="> base", significant=True)
    against = Against(_score(0.4), _difference(0.1, 0.03), p=0.12)
    result = decide(gate, score=_score(0.5), base=against)
    assert not result.passed
    assert result.reason.endswith("not shown (+0.1, p 0.03, 0.12 after Holm, n 50, McNemar)")


@pytest.mark.parametrize("when", ["base", ">= promoted plus 1", ">= current", "== base", ">= base + ", ">= base + -1"])
def test_anything_but_a_comparison_is_refused(when: str) -> None:
    with pytest.raises(ValueError, match="write a comparison such as"):
        Gate(metric="m", when=when)


def test_the_reason_has_the_numbers() -> None:
    gate = Gate(metric="intent.accuracy", when=">= base + 0.05", significant=True)
    result = decide(gate, score=_score(0.4), base=Against(_score(0.41), _difference(-0.01, 0.7)))
    assert not result.passed
    assert result.reason == (
        "intent.accuracy is 0.4 [0.3, 0.5], not >= 0.46 (base 0.41 + 0.05); "
        "a difference from base is not shown (-0.01, p 0.7, n 50, McNemar)"
    )
    with pytest.raises(GateError, match=r"1 of 1 gates did not pass\n.*0\.46") as caught:
        require([result], folder=Path("runs/x"))
    assert caught.value.exit_code == 5 and "next step" in str(caught.value)


def test_no_failed_gate_raises_nothing() -> None:
    require([decide(Gate(metric="m", when=">= 0"), score=_score(1), base=Against(_score(1)))], folder=Path("x"))


def test_unknown_keys_are_refused_with_the_known_ones() -> None:
    config = EvaluateConfig.model_validate(
        {
            "metrics": [{"name": "bleu"}, {"name": "rouge"}],
            "primary": "intent.accuracy",
            "gates": [{"metric": "blue", "when": ">= 1", "on": ["quantized"]}],
        }
    )
    with pytest.raises(ConfigError) as caught:
        check_keys(config)
    text = str(caught.value)
    assert "evaluate.primary: no chosen metric produces 'intent.accuracy'" in text
    assert "evaluate.gates.0.metric: no chosen metric produces 'blue'" in text
    assert "known: bleu, rouge1, rouge2, rougeL" in text


def test_a_metric_chosen_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="two metrics produce 'bleu'"):
        check_keys(EvaluateConfig.model_validate({"metrics": [{"name": "bleu"}] * 2, "primary": "bleu"}))


def test_known_keys_of_the_defaults() -> None:
    assert known_keys(EvaluateConfig()) == [
        "intent.accuracy",
        "intent.macro_f1",
        "intent.unparseable",
        "intent.out_of_scope_recall",
        "intent.false_accept",
        "intent_choice.accuracy",
        "latency.p50_s",
        "latency.p95_s",
        "latency.first_token_s",
        "latency.tokens_per_second",
        "latency.batch8_p50_s",
        "latency.batch8_p95_s",
        "latency.batch8_first_token_s",
        "latency.batch8_tokens_per_second",
    ]
    check_keys(EvaluateConfig())
