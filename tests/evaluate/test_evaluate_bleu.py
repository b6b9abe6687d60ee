"""BLEU: equal to sacrebleu, also on resampled rows."""

from __future__ import annotations

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU

from tunewright.core.scoring import Sample, to_score
from tunewright.evaluate.config import BleuOptions
from tunewright.evaluate.metrics.bleu import Bleu, corpus_bleu

ENGLISH = [
    ("You earn one point for every 20 yuan.", "You earn 1 point for every ¥20 spent, and points expire."),
    ("Yes.", "Yes."),
    ("", "Call the branch first."),
    ("The fee is waived, isn't it?", "The fee can be waived once a year."),
    ("no overlap whatsoever", "Blocked cards are replaced within 5 days."),
    ("Blocked cards are replaced within 5 days.", "Blocked cards are replaced within 5 days."),
]
CHINESE = [
    ("您的卡已经冻结。", "您的卡已冻结，请致电95588。"),
    ("好", "好"),
    ("", "请先致电网点。"),
    ("年费可以减免ATM手续费", "年费每年可以减免一次。"),
    ("完全无关", "补卡需要5个工作日。"),
    ("补卡需要5个工作日。", "补卡需要5个工作日。"),
]


def _samples(pairs: list[tuple[str, str]], **metadata: str) -> list[Sample]:
    return [
        Sample(id=str(i), prompt="", prediction=prediction, reference=reference, metadata=metadata)
        for i, (prediction, reference) in enumerate(pairs)
    ]


def _sacrebleu(pairs: list[tuple[str, str]], tokenize: str) -> float:
    scorer = BLEU(effective_order=True, tokenize=tokenize)
    return float(scorer.corpus_score([p for p, _ in pairs], [[r for _, r in pairs]]).score)


def _bleu(pairs: list[tuple[str, str]]) -> float:
    return Bleu(BleuOptions()).measure(_samples(pairs))[0].value


@pytest.mark.parametrize(("pairs", "tokenize"), [(ENGLISH, "13a"), (CHINESE, "zh")])
def test_corpus_and_every_resample_equal_sacrebleu(pairs: list[tuple[str, str]], tokenize: str) -> None:
    measured = Bleu(BleuOptions()).measure(_samples(pairs))[0]
    assert measured.value == pytest.approx(_sacrebleu(pairs, tokenize), abs=1e-9)
    assert 5 < measured.value < 95
    rows = np.random.default_rng(0).integers(0, len(pairs), size=(200, len(pairs)))
    scores = corpus_bleu(measured.statistics[rows])
    expected = [_sacrebleu([pairs[index] for index in chosen], tokenize) for chosen in rows]
    assert np.abs(scores - expected).max() < 1e-9
    assert len(set(np.round(scores, 6))) > 50
    assert f"tok:{tokenize}" in measured.signature and "eff:yes" in measured.signature
    assert "smooth:exp" in measured.signature and "empty:1" in measured.signature


def test_single_rows_equal_sacrebleu_with_its_smoothing() -> None:
    for pair, tokenize in [*((p, "13a") for p in ENGLISH), *((p, "zh") for p in CHINESE)]:
        assert _bleu([pair]) == pytest.approx(_sacrebleu([pair], tokenize), abs=1e-9)


@pytest.mark.parametrize("text", ["a", "好", "ok then", "两字", "one two three", "one two three four five six"])
def test_identical_texts_score_100_at_any_length(text: str) -> None:
    assert _bleu([(text, text)]) == pytest.approx(100, abs=1e-9)


@pytest.mark.parametrize("text", ["好", "yes", "您的卡已冻结", "The fee can be waived once a year."])
def test_a_right_answer_pasted_four_times_never_gains(text: str) -> None:
    assert _bleu([(" ".join([text] * 4), text)]) < 50


def test_an_empty_prediction_scores_0() -> None:
    assert _bleu([("", "Call the branch.")]) == 0
    assert _bleu([("  \n", "好")]) == 0


def test_the_tokenizer_follows_the_share_of_han_characters() -> None:
    edge = "好" + "a" * 4  # 20 % Han
    assert "tok:zh" in Bleu(BleuOptions()).measure(_samples([(edge, edge)]))[0].signature
    assert "tok:13a" in Bleu(BleuOptions()).measure(_samples([(edge, edge + "a")]))[0].signature


def test_where_keeps_the_rows_it_names() -> None:
    metric = Bleu(BleuOptions(where={"metadata.task": "answer"}))
    rows = [*_samples(ENGLISH[5:], task="answer"), *_samples(ENGLISH[:5], task="intent")]
    measured = metric.measure(rows)[0]
    assert len(measured.statistics) == 1 and measured.value == pytest.approx(100)
    assert metric.measure(_samples(ENGLISH, task="intent")) == []


def test_the_interval_holds_the_value() -> None:
    score = to_score(Bleu(BleuOptions()).measure(_samples(ENGLISH * 10))[0], seed=7)
    assert score.low < score.value < score.high
    assert (score.n, score.metric) == (60, "bleu")
