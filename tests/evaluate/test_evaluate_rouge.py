"""ROUGE: hand-computed, Lin's own example, and an independent plain implementation."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from tunewright.core.scoring import Sample
from tunewright.evaluate.config import RougeOptions
from tunewright.evaluate.metrics.characters import han_share, tokens
from tunewright.evaluate.metrics.rouge import Rouge, common_subsequence


def _rouge(prediction: str, reference: str) -> dict[str, float]:
    sample = Sample(id="1", prompt="", prediction=prediction, reference=reference)
    return {measured.metric: measured.value for measured in Rouge(RougeOptions()).measure([sample])}


def test_by_hand() -> None:
    """3 of 3 and 6 words, 2 of 2 and 5 pairs, subsequence of 3: 2 * 3 / 9, 2 * 2 / 7, 2 * 3 / 9."""
    found = _rouge("The cat sat", "the cat sat on the mat")
    assert found == pytest.approx({"rouge1": 200 / 3, "rouge2": 400 / 7, "rougeL": 200 / 3})


def test_chinese_by_hand() -> None:
    """还款日 against 还款日是5号: 3 of 3 and 6 tokens, 2 of 2 and 5 pairs."""
    found = _rouge("还款日", "还款日是5号")
    assert found == pytest.approx({"rouge1": 200 / 3, "rouge2": 400 / 7, "rougeL": 200 / 3})


def test_the_longest_subsequence_example_of_lin_2004() -> None:
    """Lin 2004, section 3: against "police killed the gunman" S2 scores 3/4, S3 2/4 (lengths are equal: F1 too)."""
    assert _rouge("police kill the gunman", "police killed the gunman")["rougeL"] == pytest.approx(75)
    assert _rouge("the gunman kill police", "police killed the gunman")["rougeL"] == pytest.approx(50)


def _plain_lcs(first: list[str], second: list[str]) -> int:
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            table[i + 1][j + 1] = table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


def _plain_rouge_n(first: list[str], second: list[str], order: int) -> float:
    order = min(order, len(first), len(second))
    ours = [" ".join(first[i : i + order]) for i in range(len(first) - order + 1)]
    theirs = [" ".join(second[i : i + order]) for i in range(len(second) - order + 1)]
    limit = Counter(theirs)
    common = sum(min(count, limit[gram]) for gram, count in Counter(ours).items())
    precision, recall = common / len(ours), common / len(theirs)
    return 200 * precision * recall / (precision + recall) if common else 0.0


def test_equals_a_plain_implementation_on_random_texts() -> None:
    draw = random.Random(0)
    for _ in range(300):
        first = draw.choices(["a", "b", "c", "d", "好", "的", "1", "."], k=draw.randint(1, 70))
        second = draw.choices(["a", "b", "c", "d", "好", "的", "1", "."], k=draw.randint(1, 70))
        assert common_subsequence(first, second) == _plain_lcs(first, second)
        found = _rouge(" ".join(first), " ".join(second))
        assert found["rouge1"] == pytest.approx(_plain_rouge_n(first, second, 1))
        assert found["rouge2"] == pytest.approx(_plain_rouge_n(first, second, 2))
        assert found["rougeL"] == pytest.approx(200 * _plain_lcs(first, second) / (len(first) + len(second)))


def test_equals_rouge_score_on_english() -> None:
    scorer_module = pytest.importorskip("rouge_score.rouge_scorer", reason="rouge_score is not installed")
    scorer = scorer_module.RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
    prediction, reference = "you may call the branch today", "please call the branch before noon today"
    expected = {key: 100 * value.fmeasure for key, value in scorer.score(reference, prediction).items()}
    assert _rouge(prediction, reference) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["a", "好", "。", "é", "ok then", "两字", "Prüfung 3.5 и ещё!"])
def test_identical_texts_score_100_at_any_length(text: str) -> None:
    assert _rouge(text, text) == pytest.approx({"rouge1": 100, "rouge2": 100, "rougeL": 100})


@pytest.mark.parametrize("text", ["好", "yes", "请致电网点", "the fee is waived"])
def test_a_right_answer_pasted_four_times_never_gains(text: str) -> None:
    found = _rouge(" ".join([text] * 4), text)
    assert all(value <= 50 for value in found.values()), found


def test_an_empty_prediction_scores_0_and_is_counted() -> None:
    rows = [
        Sample(id="1", prompt="", prediction=" ", reference="好的"),
        Sample(id="2", prompt="", prediction="好的", reference="好的"),
    ]
    for measured in Rouge(RougeOptions()).measure(rows):
        assert measured.value == pytest.approx(50)
        assert "empty:1" in measured.signature


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It's 37.5%", ["it", "'", "s", "37", ".", "5", "%"]),
        ("尾号8841的卡OK", ["尾", "号", "8841", "的", "卡", "ok"]),
        ("кошка ÜBER", ["кошка", "ü", "ber"]),
        ("ひらがな漢字", ["ひらがな", "漢", "字"]),
        ("a_b", ["a", "_", "b"]),
        (" \n\u3000", []),
    ],
)
def test_tokens(text: str, expected: list[str]) -> None:
    assert tokens(text) == expected


def test_han_share() -> None:
    assert han_share(["好好", "ab", "。1"]) == pytest.approx(2 / 6)
    assert han_share([]) == 0
