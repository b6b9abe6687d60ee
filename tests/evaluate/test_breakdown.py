"""Groups of rows: who is in them, their numbers, and what is said of few rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from tunewright.core.scoring import Measured, Sample, mcnemar, wilson
from tunewright.evaluate import breakdown
from tunewright.evaluate.breakdown import FEWEST, LENGTH, TOO_FEW
from tunewright.evaluate.config import EvaluateConfig
from tunewright.evaluate.metrics.counts import rate
from tunewright.evaluate.scorer import row_metrics


@dataclass
class System:
    samples: list[Sample]
    measured: dict[str, Measured]


def sample(index: int, label: str, said: str, **more: Any) -> Sample:
    metadata = {"intent": label, **more}
    return Sample(id=str(index), prompt="x" * (index + 1), reference=label, prediction=said, metadata=metadata)


def systems(
    base: list[Sample], tuned: list[Sample], primary: str = "intent.accuracy", *names: str
) -> tuple[EvaluateConfig, list[Any], System, System]:
    chosen = [{"name": name} for name in (names or ("intent",))]
    config = EvaluateConfig.model_validate({"metrics": chosen, "primary": primary})
    metrics = row_metrics(config, ())
    both = [System(rows, {m.metric: m for metric in metrics for m in metric.measure(rows)}) for rows in (base, tuned)]
    return config, metrics, both[0], both[1]


LABELS = ["fee"] * 20 + ["pin"] * 20 + ["Card Lost"] * 4
"""44 rows. Base: all `fee` right, the rest wrong. Tuned: `fee` loses 12, `pin` gains all, `card_lost` gains all."""
BASE = [sample(i, label, "fee" if label == "fee" else "hello") for i, label in enumerate(LABELS)]
TUNED = [sample(i, label, "pin" if i < 12 else label) for i, label in enumerate(LABELS)]


def tables(**more: Any) -> dict[tuple[str, str], dict[str, Any]]:
    config, metrics, base, tuned = systems(BASE, TUNED)
    found = breakdown.breakdown(config, metrics, base, tuned, seed=7, **more)
    return {(table["metric"], table["by"]): table for table in found}


def test_labels_with_their_own_numbers_the_worst_change_first() -> None:
    table = tables()["intent.accuracy", "intent"]
    fee, pin, lost = sorted(table["groups"], key=lambda group: group["group"] != "fee")
    assert [group["group"] for group in table["groups"]] == ["fee", "pin", "Card Lost"], "worst first, then larger n"
    assert (fee["n"], fee["base"]["value"], fee["tuned"]["value"]) == (20, 1, 0.4)
    assert (fee["tuned"]["low"], fee["tuned"]["high"]) == pytest.approx(wilson(8, 20))
    assert fee["difference"]["difference"] == pytest.approx(-0.6)
    assert fee["difference"]["test"] == "McNemar"
    assert fee["difference"]["p"] == mcnemar([False] * 12 + [True] * 8, [True] * 20) == 2 / 2**12
    assert fee["difference"]["verdict"].startswith("worse (p ")
    assert (pin["n"], pin["difference"]["difference"]) == (20, 1) and pin["difference"]["verdict"].startswith("better")
    assert lost["n"] == 4


def test_p_is_corrected_for_the_groups_that_have_enough_rows() -> None:
    """Two groups of 20 count, the one of 4 does not: Holm doubles the smaller p and keeps the larger."""
    fee, pin, lost = tables()["intent.accuracy", "intent"]["groups"]
    assert pin["difference"]["p_holm"] == pytest.approx(2 * 2 / 2**20)
    assert fee["difference"]["p_holm"] == pytest.approx(2 / 2**12)
    assert lost["difference"]["p_holm"] is None


def test_too_few_rows_are_said_so() -> None:
    table = tables()["intent.accuracy", "intent"]
    lost = table["groups"][2]
    assert table["fewest"] == FEWEST == 10
    assert lost["n"] < FEWEST and lost["difference"]["verdict"] == TOO_FEW
    assert lost["difference"]["difference"] == 1, "its numbers are still shown"


def test_length_in_thirds_that_name_their_limits() -> None:
    """Prompts are 1 to 44 characters long: thirds end at the 15th and the 30th."""
    table = tables()["intent.accuracy", LENGTH]
    sizes = {group["group"]: group["n"] for group in table["groups"]}
    assert sizes == {"0 to 15 characters": 15, "16 to 30 characters": 15, "31 to 44 characters": 14}
    assert "thirds" in table["note"]
    first = next(group for group in table["groups"] if group["group"] == "0 to 15 characters")
    assert first["base"]["value"] == 1 and first["tuned"]["value"] == pytest.approx(3 / 15)
    assert table["groups"][0] is first, "it lost most"


def test_equal_lengths_stay_together() -> None:
    def of(*lengths: int) -> list[tuple[str, list[int]]]:
        rows = [Sample(id="", prompt="x" * n, reference="", prediction="") for n in lengths]
        return [(name, found) for name, found in breakdown.by_length(rows)]

    assert of(5, 5, 5, 5) == [("0 to 5 characters", [0, 1, 2, 3])]
    assert of(5, 9, 5, 5) == [("0 to 5 characters", [0, 2, 3]), ("6 to 9 characters", [1])]
    assert of(9, 5, 5, 9, 9) == [("0 to 5 characters", [1, 2]), ("6 to 9 characters", [0, 3, 4])]
    assert of(1, 2, 3) == [("0 to 1 characters", [0]), ("2 to 2 characters", [1]), ("3 to 3 characters", [2])]
    assert of() == []


def test_spellings_of_a_label_are_one_group_and_a_missing_key_has_a_name() -> None:
    rows = [sample(0, "Card-Lost", ""), sample(1, "card_lost", ""), sample(2, "fee", "")]
    assert breakdown.by_label(rows, "metadata.intent") == [("Card-Lost", [0, 1]), ("fee", [2])]
    assert breakdown.by_key(rows, "metadata.tier") == [("(no value)", [0, 1, 2])]


def test_every_yes_no_metric_has_tables_the_primary_first() -> None:
    keys = list(tables())
    assert keys[0] == ("intent.accuracy", "intent")
    assert {metric for metric, _ in keys} == {"intent.accuracy", "intent.unparseable"}
    lower = tables()["intent.unparseable", "intent"]
    assert lower["higher_is_better"] is False
    changes = [group["difference"]["difference"] for group in lower["groups"]]
    assert changes == sorted(changes, reverse=True), "less is better here, so the largest rise stands first"


def test_other_keys_of_the_metadata() -> None:
    base = [row.model_copy(update={"metadata": {**row.metadata, "lang": "zh" if i % 2 else "en"}})
            for i, row in enumerate(BASE)]  # fmt: skip
    tuned = [row.model_copy(update={"metadata": b.metadata}) for row, b in zip(TUNED, base, strict=True)]
    config, metrics, old, new = systems(base, tuned)
    found = breakdown.breakdown(config, metrics, old, new, seed=7, by=["metadata.lang", "metadata.intent"])
    names = [table["by"] for table in found if table["metric"] == "intent.accuracy"]
    assert names == ["intent", "lang", LENGTH], "the label is not shown twice"


def test_a_primary_metric_of_texts_is_measured_on_the_rows_of_the_group() -> None:
    words = ["alpha beta", "gamma delta epsilon", "one two three four"]
    rows = [
        Sample(id=str(i), prompt="x" * (1 + 10 * (i % 3)), reference=words[i % 3], prediction=words[i % 3])
        for i in range(60)
    ]
    worse = [row.model_copy(update={"prediction": "nothing"}) if len(row.prompt) == 1 else row for row in rows]
    config, metrics, base, tuned = systems(rows, worse, "rougeL", "rouge", "exact")
    found = breakdown.breakdown(config, metrics, base, tuned, seed=7)
    assert [(table["metric"], table["by"]) for table in found] == [("rougeL", LENGTH), ("exact", LENGTH)]
    first, *rest = found[0]["groups"]
    assert (first["n"], first["base"]["value"], first["tuned"]["value"]) == (20, pytest.approx(100), 0)
    assert first["difference"]["test"] == "paired bootstrap" and first["difference"]["verdict"].startswith("worse")
    assert all(group["difference"]["verdict"].startswith("no difference shown") for group in rest)


def test_a_metric_over_some_of_its_rows_finds_them() -> None:
    """Steps are measured only where the reference calculates: the long questions here."""
    rows = [
        Sample(id=str(i), prompt="x" * (1 + i), reference="2+3=5\n#### 5" if i >= 20 else "#### 5", prediction="2+3=5")
        for i in range(40)
    ]
    lost = [row.model_copy(update={"prediction": "no"}) if i >= 30 else row for i, row in enumerate(rows)]
    config, metrics, base, tuned = systems(rows, lost, "math.step_completeness", "math")
    table = breakdown.breakdown(config, metrics, base, tuned, seed=7)[0]
    assert table["metric"] == "math.step_completeness"
    assert sum(group["n"] for group in table["groups"]) == len(tuned.measured["math.step_completeness"].statistics)
    assert all(int(group["group"].split()[0]) == 0 or int(group["group"].split()[0]) > 20 for group in table["groups"])
    assert table["groups"][0]["group"].endswith("to 40 characters"), "the last ten rows lost"


def outcomes(both: int, gained: int, lost: int, neither: int) -> tuple[Measured, Measured]:
    ours = [True] * both + [True] * gained + [False] * (lost + neither)
    theirs = [True] * both + [False] * gained + [True] * lost + [False] * neither
    tuned, base = (rate("exact", 1, side, signature="") for side in (ours, theirs))
    return tuned, base


def test_the_interval_of_paired_rates_is_the_published_one() -> None:
    """Newcombe 1998, table II (36, 12, 2, 0), and Bentur's data (1, 1, 7, 12) in Fagerland, Lydersen and Laake 2014
    (Statistics in Medicine 33, 2850-2875), where it is the square-and-add interval."""
    assert breakdown.paired_rates(*outcomes(36, 12, 2, 0)) == pytest.approx((0.0569, 0.3404), abs=5e-5)
    assert breakdown.paired_rates(*outcomes(1, 1, 7, 12)) == pytest.approx((-0.507, -0.026), abs=5e-4)


def test_rows_that_did_not_change_do_not_prove_a_difference_of_nothing() -> None:
    low, high = breakdown.paired_rates(*outcomes(0, 0, 0, 8))
    assert low == pytest.approx(-wilson(0, 8)[1]) and high == -low
    gone = tables()["intent.accuracy", "intent"]["groups"][0]["difference"]
    assert gone["low"] < -0.6 < gone["high"] < 0


def test_intervals_follow_the_seed_only() -> None:
    once, twice = tables(), tables()
    assert once == twice
    assert not np.isnan([group["base"]["low"] for table in once.values() for group in table["groups"]]).any()
