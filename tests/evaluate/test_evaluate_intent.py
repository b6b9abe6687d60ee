"""Intent: normalization, labels, accuracy, macro-F1, unparseable answers."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from tunewright.core.chat import Conversation, Message
from tunewright.core.scoring import Sample, bootstrap, to_score
from tunewright.evaluate.config import IntentOptions
from tunewright.evaluate.labels import merged_labels, normalize, training_labels
from tunewright.evaluate.metrics.intent import Intent, macro_f1

LABELS = ["card_lost", "pin_reset", "fee"]


def _samples(pairs: list[tuple[str, str]], choices: list[str] | None = None) -> list[Sample]:
    return [
        Sample(
            id=str(i),
            prompt="",
            prediction=said,
            reference=right,
            metadata={"intent": right, "task": "intent"},
            choice=choices[i] if choices else None,
        )
        for i, (said, right) in enumerate(pairs)
    ]


def _row(answer: str, label: str | None, task: str = "intent") -> Conversation:
    metadata = {"task": task} | ({"intent": label} if label is not None else {})
    messages = (Message(role="user", content="?"), Message(role="assistant", content=answer))
    return Conversation(id=answer, messages=messages, metadata=metadata)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (' "Card-Lost".\n', "card_lost"),
        ("“card lost”。", "card_lost"),
        ("ＣＡＲＤ＿ＬＯＳＴ", "card_lost"),
        ("`card–lost`", "card_lost"),
        ("**card  lost**", "card_lost"),
        ("_card_lost_", "card_lost"),
        ("STRASSE", normalize("straße")),
        ("挂失！", "挂失"),
        ("", ""),
        ("...", ""),
        ("card_lost because", "card_lost_because"),
    ],
)
def test_normalize(text: str, expected: str) -> None:
    assert normalize(text) == expected


def test_accuracy_counts_only_exactly_one_known_label() -> None:
    answers = [
        ("Card Lost.", "card_lost"),
        ("card_lost, pin_reset", "card_lost"),
        ("The label is fee", "fee"),
        ("pin-reset", "pin_reset"),
        ("fee", "pin_reset"),
        ("", "fee"),
    ]
    measured = {m.metric: m for m in Intent(IntentOptions(), LABELS).measure(_samples(answers))}
    assert set(measured) == {"intent.accuracy", "intent.macro_f1", "intent.unparseable"}
    assert measured["intent.accuracy"].statistics[:, 0].tolist() == [1, 0, 0, 1, 0, 0]
    assert measured["intent.unparseable"].statistics[:, 0].tolist() == [0, 1, 1, 0, 0, 1]
    assert not measured["intent.unparseable"].higher_is_better
    assert "unparseable:3" in measured["intent.accuracy"].signature
    score = to_score(measured["intent.accuracy"], seed=7)
    assert (score.value, score.n) == (pytest.approx(2 / 6), 6)
    # Wilson by hand for 2 of 6, z^2 = 3.8415: centre (1/3 + z2/12) / (1 + z2/6), half as in Wilson 1927
    assert (score.low, score.high) == pytest.approx((0.0968, 0.7000), abs=5e-5)


def test_macro_f1_by_hand() -> None:
    """a: 1 hit, 2 right, 1 answered: 2/3; b: 2, 2, 3: 4/5; c: never hit: 0; an answered d is in no mean."""
    answers = [("a", "a"), ("b", "a"), ("b", "b"), ("b", "b"), ("d", "c")]
    measured = {m.metric: m for m in Intent(IntentOptions(), ["d"]).measure(_samples(answers))}
    assert measured["intent.macro_f1"].value == pytest.approx((2 / 3 + 4 / 5 + 0) / 3)


@pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="scikit-learn is not installed")
def test_macro_f1_and_its_resamples_equal_scikit_learn() -> None:
    from sklearn.metrics import f1_score

    draw = np.random.default_rng(0)
    right, said = draw.integers(0, 5, 60), draw.integers(0, 6, 60)
    rows = draw.integers(0, 60, size=(50, 60))
    scores = macro_f1(5)(np.stack([right, said], 1).astype(float)[rows])
    for score, chosen in zip(scores, rows, strict=True):
        expected = f1_score(
            right[chosen], said[chosen], labels=sorted(set(right[chosen])), average="macro", zero_division=0
        )
        assert score == pytest.approx(expected)


def test_macro_f1_of_all_right_answers_is_1_in_every_resample() -> None:
    """A label that a resample misses must not pull the mean down."""
    measured = {m.metric: m for m in Intent(IntentOptions()).measure(_samples([(x, x) for x in "abcdefgh"]))}
    values = bootstrap(measured["intent.macro_f1"].statistics, measured["intent.macro_f1"].aggregate, seed=7)
    assert values.min() == values.max() == 1


def test_constrained_choice_is_scored_where_every_row_has_one() -> None:
    samples = _samples([("?", "card_lost"), ("?", "fee")], ["Card-lost", "pin_reset"])
    measured = {m.metric: m for m in Intent(IntentOptions(), LABELS).measure(samples)}
    assert measured["intent_choice.accuracy"].statistics[:, 0].tolist() == [1, 0]
    assert measured["intent.accuracy"].value == 0
    partly = [samples[0], samples[1].model_copy(update={"choice": None})]
    assert "intent_choice.accuracy" not in {m.metric for m in Intent(IntentOptions(), LABELS).measure(partly)}


def test_rows_without_a_label_or_of_another_task_are_not_scored() -> None:
    metric = Intent(IntentOptions(where={"metadata.task": "intent"}), LABELS)
    assert metric.applies({"task": "intent", "intent": "fee"})
    assert not metric.applies({"task": "answer", "intent": "fee"})
    assert not metric.applies({"task": "intent"})
    assert Intent(IntentOptions(label="metadata.a.b")).applies({"a": {"b": "x"}})
    assert metric.measure([Sample(id="1", prompt="", prediction="fee", reference="fee", metadata={})]) == []


def test_training_labels_are_spelled_as_they_were_answered() -> None:
    rows = [
        _row("Card lost", "card_lost"),
        _row("Card lost", "card_lost"),
        _row("card_lost", "card-lost"),
        _row("Something else.", "fee"),
        _row("An answer", "other", task="answer"),
        _row("no label", None),
    ]
    options = IntentOptions(where={"metadata.task": "intent"})
    assert training_labels(options, rows) == ["Card lost", "fee"]
    assert merged_labels(options, rows) == [("card-lost", "card_lost")]
