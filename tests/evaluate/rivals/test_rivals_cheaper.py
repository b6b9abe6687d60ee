"""The sentence about a cheaper rival: when it stands, which rival it names, and what it says."""

from __future__ import annotations

from typing import Any

import pytest

from tunewright.evaluate.rivals.cheaper import cheaper_rival, is_as_good
from tunewright.evaluate.rivals.http import cost_per_thousand
from tunewright.evaluate.rivals.rival import Price
from tunewright.evaluate.systems.endpoint import Usage
from tunewright.evaluate.table import rivals_table


def rival(name: str = "tfidf", *, difference: float, p: float, seconds: float = 0.01, **more: Any) -> dict[str, Any]:
    higher_is_better = more.pop("higher_is_better", True)
    score = {"value": 0.8, "low": 0.7, "high": 0.9, "n": 100, "unit": "", "higher_is_better": higher_is_better}
    paired = {"difference": difference, "low": difference - 0.05, "high": difference + 0.05, "p": p, "n": 100}
    return {
        "name": name,
        "why": "needs no chat model and no GPU",
        "scores": {"intent.accuracy": score},
        "paired": {"intent.accuracy": paired | {"p_holm": p, "verdict": f"better (p {p})"}},
        "seconds_per_answer": seconds,
        "cost_per_thousand": None,
        "currency": None,
    } | more


@pytest.mark.parametrize(
    ("difference", "p", "higher_is_better", "expected"),
    [
        (0.10, 0.01, True, False),  # the tuned model is shown to be better
        (0.10, 0.30, True, True),  # no difference shown
        (-0.10, 0.01, True, True),  # the rival is shown to be better
        (0.00, 0.01, True, True),
        (-0.10, 0.01, False, False),  # of an error rate less is better
        (0.10, 0.01, False, True),
    ],
)
def test_as_good_is_not_shown_to_be_worse(difference: float, p: float, higher_is_better: bool, expected: bool) -> None:
    found = rival(difference=difference, p=p, higher_is_better=higher_is_better)
    assert is_as_good(found, "intent.accuracy") is expected
    assert not is_as_good(found, "bleu"), "a rival that is not scored on the primary metric says nothing about it"


def test_the_sentence_has_the_numbers() -> None:
    said = cheaper_rival([rival(difference=0.02, p=0.4)], "intent.accuracy")
    assert said == {
        "name": "tfidf",
        "sentence": "A cheaper rival is as good: tfidf needs no chat model and no GPU and has 0.800 on "
        "intent.accuracy; tuned - tfidf is +0.020 [-0.030, 0.070], n 100, no difference shown (p 0.4).",
    }
    better = cheaper_rival([rival(difference=-0.1, p=0.001)], "intent.accuracy")
    assert better and better["sentence"].startswith("A cheaper rival is better: tfidf")
    assert "the rival is shown to be better (p 0.001)" in better["sentence"]


def test_the_cheapest_is_named_first_and_none_where_training_pays() -> None:
    api = rival("api", difference=0.0, p=1.0, cost_per_thousand=0.5, currency="EUR", seconds=0.001)
    slow, fast = (rival(name, difference=0.0, p=1.0, seconds=s) for name, s in (("slow", 3.0), ("fast", 0.1)))
    beaten = rival("beaten", difference=0.3, p=0.001, seconds=0.0001)
    said = cheaper_rival([api, slow, beaten, fast], "intent.accuracy")
    assert said and said["name"] == "fast" and said["sentence"].endswith("The same holds for slow, api.")
    paid = cheaper_rival([api], "intent.accuracy")
    assert paid and "; a thousand of its answers cost 0.50 EUR." in paid["sentence"]
    assert cheaper_rival([beaten], "intent.accuracy") is None and cheaper_rival([], "intent.accuracy") is None


def test_what_a_thousand_answers_cost() -> None:
    """20 answers of 300 and 10 tokens: (6000 x 0.5 + 200 x 1.5) / 1e6 / 20 x 1000 = 0.165."""
    usage = Usage(answers=20, counted=20, prompt_tokens=6000, new_tokens=200)
    assert cost_per_thousand(Price(0.5, 1.5, "USD"), usage) == pytest.approx(0.165)
    half = Usage(answers=20, counted=10, prompt_tokens=3000, new_tokens=100)
    assert cost_per_thousand(Price(0.5, 1.5, "USD"), half) == pytest.approx(0.165), "by the answers that were counted"
    assert cost_per_thousand(Price(None, 1.5, "USD"), usage) is None
    assert cost_per_thousand(Price(0.5, 1.5, "USD"), Usage(20, 0, 0, 0)) is None


def test_the_table_lists_every_rival() -> None:
    other = rival("odd", difference=0.0, p=1.0) | {"scores": {}, "paired": {}}
    paid = rival("api", difference=0.1, p=0.01, cost_per_thousand=12.345, currency="USD", seconds=1.5)
    scores = {"primary": "intent.accuracy", "rivals": [paid, other], "notes": {"tuned": {"seconds_per_answer": 0.25}}}
    head, _, first, second, timed = rivals_table(scores)
    assert head.split()[:3] == ["rival", "metric", "score"]
    assert first.split("  ")[0] == "api" and "+0.100 [0.050, 0.150]" in first and first.endswith("1.5      12.35 USD")
    assert "tuned better" in first and "no metric applies" in second
    assert timed == "s/answer of the tuned model: 0.25, asked one by one as the rivals are"
