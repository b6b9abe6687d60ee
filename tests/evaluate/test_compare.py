"""Rows side by side: which got worse, by right and wrong or by the row's own score, and how that reads as text."""

from __future__ import annotations

from typing import Any

import pytest

from tunewright.core.scoring import Sample
from tunewright.evaluate import compare
from tunewright.evaluate.config import EvaluateConfig
from tunewright.evaluate.scorer import RowMetric, row_metrics

REFERENCE = "the fee is waived once a year"


def rows(*said: str, **metadata: Any) -> list[Sample]:
    return [
        Sample(id=f"r{i}", prompt=f"question {i}", reference=REFERENCE, prediction=text, metadata=metadata)
        for i, text in enumerate(said)
    ]


def built(primary: str, *names: str) -> tuple[EvaluateConfig, list[RowMetric]]:
    config = EvaluateConfig.model_validate({"metrics": [{"name": name} for name in names], "primary": primary})
    return config, row_metrics(config, ())


def scores(primary: str, samples: list[Sample], *names: str) -> list[float | None] | None:
    config, metrics = built(primary, *names)
    measured = {one.metric: one for metric in metrics for one in metric.measure(samples)}
    return compare.primary_row_scores(config, metrics, samples, measured)


def test_each_key_has_its_metric() -> None:
    config, metrics = built("bleu", "bleu", "latency", "rouge")
    found = compare.owners(config, metrics)
    assert set(found) == {"bleu", "rouge1", "rouge2", "rougeL"}, "latency measures a model"
    assert found["bleu"] is metrics[0] and found["rougeL"] is metrics[1]


def test_texts_get_a_score_a_row() -> None:
    found = scores("rougeL", rows(REFERENCE, "the fee", ""), "rouge")
    # Two of two words found among seven: F1 = 2 * 1 * (2/7) / (1 + 2/7) = 4/9.
    assert found == pytest.approx([100, 100 * 4 / 9, 0])


def test_rows_without_a_number_have_none() -> None:
    samples = rows("2+3=5", "2+3=5", "5")
    samples[0] = samples[0].model_copy(update={"reference": "#### 5"})
    samples[1:] = [row.model_copy(update={"reference": "2+3=5\n5+1=6\n#### 6"}) for row in samples[1:]]
    found = scores("math.step_completeness", samples, "math")
    assert found is not None and found[0] is None
    assert found[1] is not None and found[2] is not None and 0 < found[1] <= 1


def test_right_and_wrong_need_no_scores() -> None:
    assert scores("exact", rows(REFERENCE, "no"), "exact") is None
    config, metrics = built("latency.p50_s", "latency", "exact")
    assert compare.primary_row_scores(config, metrics, rows(REFERENCE), {}) is None


def test_less_is_better_needs_them() -> None:
    samples = rows("ok", "你这个傻逼")
    assert scores("toxicity.rate", samples, "toxicity") == [0, 1]


def side(base: list[str], tuned: list[str], **more: Any) -> list[dict[str, Any]]:
    unknown = [None] * len(base)
    return compare.side_by_side(rows(*base), rows(*tuned), base_right=unknown, tuned_right=unknown, **more)


def test_scores_stand_in_the_rows_only_where_there_are_any() -> None:
    assert "base_score" not in side(["a"], ["b"])[0]
    row = side(["a"], ["b"], base_scores=[40.0], tuned_scores=[None])[0]
    assert (row["base_score"], row["tuned_score"], row["base"], row["tuned"]) == (40, None, "a", "b")


def test_scores_decide_before_right_and_wrong() -> None:
    row = {"base_right": True, "tuned_right": False, "base_score": 10.0, "tuned_score": 30.0}
    assert compare.change_of(row, higher_is_better=True) == "better"
    assert compare.change_of(row, higher_is_better=False) == "worse"
    assert compare.change_of({**row, "base_score": None}, higher_is_better=False) == "worse", "right before, wrong now"
    assert compare.change_of({**row, "tuned_score": 10.0}, higher_is_better=True) == "same"
    assert compare.change_of({}, higher_is_better=True) == "unknown"


def test_the_largest_loss_stands_first() -> None:
    found = side(["a"] * 4, ["b"] * 4, base_scores=[50.0, 50.0, 50.0, 50.0], tuned_scores=[40.0, 60.0, 0.0, 50.0])
    assert [row["id"] for row in compare.got_worse(found)] == ["r2", "r0"]
    assert [row["id"] for row in compare.got_worse(found, higher_is_better=False)] == ["r1"]


def test_yes_no_rows_keep_their_order() -> None:
    answers = compare.side_by_side(
        rows(*"abc"), rows(*"xyz"), base_right=[True, False, True], tuned_right=[False, True, False]
    )
    assert [row["id"] for row in compare.got_worse(answers)] == ["r0", "r2"]


def test_the_text_lists_twenty_and_counts_all() -> None:
    many = side(["long\nanswer " * 20] * 30, [""] * 30, base_scores=[1.0] * 30, tuned_scores=[0.25] * 30)
    lines = compare.worse_text(many).splitlines()
    assert lines[0] == "30 of 30 rows got worse; the first 20:"
    assert len(lines) == 21 and lines[1].startswith("  r0 (1 -> 0.25)  'question 0'  base: 'long answer long")
    assert lines[1].endswith("tuned: ''") and all(len(line) < 160 for line in lines)
    assert compare.worse_text(side(["a"], ["b"], base_scores=[0.0], tuned_scores=[1.0])) == "0 of 1 rows got worse"
    assert "not known" in compare.worse_text(side(["a"], ["b"]))


def test_recordings_have_no_wrong_answer_floor() -> None:
    class Recorded:
        of_recordings = True

        def applies(self, metadata: Any) -> bool:
            return True

        def measure(self, samples: Any) -> list[Any]:
            raise AssertionError("nothing is measured")

    assert compare.wrong_answer_floors(Recorded(), rows("a", "b", "c"), seed=7) == {}
