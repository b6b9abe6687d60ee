"""Labels of several annotators: forms, agreement, consensus, the gate, and the guide's example."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from tunewright.core.errors import ConfigError, GateError
from tunewright.data.annotation.labels import BadLabels, label_notes, labels_of
from tunewright.data.annotation.measure import Collected, measure, summarize
from tunewright.data.annotation.options import AnnotationConfig
from tunewright.data.annotation.report import refuse_disagreement, with_consensus

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "annotation.md"


@pytest.mark.parametrize(
    ("value", "labels"),
    [
        ({"lin": "a", "wu": "b"}, {"lin": "a", "wu": "b"}),
        ([{"annotator": "lin", "label": "a"}, {"annotator": 7, "label": 2, "seconds": 3}], {"lin": "a", "7": "2"}),
        (["a", None, " b "], {"1": "a", "3": "b"}),
        ({"lin": 2.0, "wu": 2, "mara": 2.5, "ana": True}, {"lin": "2", "wu": "2", "mara": "2.5", "ana": "true"}),
        ({"lin": "", "wu": None}, {}),
        ({}, {}),
        (None, {}),
    ],
)
def test_forms_that_are_read(value, labels) -> None:
    assert labels_of(value) == labels


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("a", "labels are a text, not an object from annotator to label or a list"),
        ({"lin": ["a", "b"]}, "the label of 'lin' is a list; one label an annotator is needed"),
        ({"annotator": "lin", "label": "a"}, "labels are one object {annotator, label}, not a list of them"),
        ([{"annotator": "lin", "label": "a"}, {"annotator": "lin", "label": "b"}], "annotator 'lin' is named twice"),
        ([{"annotator": "lin"}], "entry 1 of the list has no key 'label'"),
        ([{"annotator": None, "label": "a"}], "entry 1 of the list names no annotator"),
        ([{"annotator": "lin", "label": "a"}, "b"], "the list mixes objects and plain labels"),
        ({"lin": "z"}, "annotator 'lin' gave a label that is not among annotation.categories: 'z'"),
        ({"lin": float("nan")}, "the label of 'lin' is a number; one label an annotator is needed"),
    ],
)
def test_forms_that_are_not(value, reason) -> None:
    with pytest.raises(BadLabels) as caught:
        labels_of(value, ["a", "b"])
    assert str(caught.value) == reason
    (note,) = label_notes(value, ["a", "b"])
    assert (note.code, note.action) == ("LABELS", "kept")
    assert note.reason.endswith(reason)


def test_good_labels_have_no_finding() -> None:
    assert label_notes({"lin": "a"}, ["a"]) == ()
    assert label_notes(None) == ()


ROWS = [
    ("r:1", {"a": "x", "b": "x"}),
    ("r:2", {"a": "x", "b": "x"}),
    ("r:3", {"a": "y", "b": "y"}),
    ("r:4", {"a": "x", "b": "y"}),
    ("r:5", {"a": "y"}),
    ("r:6", None),
    ("r:7", "x"),
    ("r:8", "y"),
]


def test_the_counts() -> None:
    """Two annotators, rows 1 to 4: raw 3/4; Cohen: chance .75*.5 + .25*.5 = .5, so .5."""
    report = measure(ROWS, seed=7, consensus="majority")
    assert (report.rows, report.labelled, report.double, report.unanimous) == (8, 5, 4, 3)
    assert report.raw.value == 0.75
    assert (report.kappa.name, report.kappa.value) == ("cohen_kappa", pytest.approx(0.5))
    assert [(bad.count, bad.examples) for bad in report.bad] == [(2, ["r:7", "r:8"])]
    assert report.distribution == {"x": 2, "y": 2}
    assert report.ties == 1
    assert [report.consensus_of(row_id) for row_id, _ in ROWS] == ["x", "x", "y", None, "y", None, None, None]
    assert report.consensus_of("r:99") is None
    assert [row.id for row in report.disputed] == ["r:4"]
    assert report.disputed[0].labels == {"a": "x", "b": "y"}
    by_name = {annotator.name: annotator for annotator in report.annotators}
    assert by_name["a"].confusion == {"x": {"x": 2}, "y": {"y": 2}}
    assert by_name["a"].accuracy == pytest.approx(4.5 / 5)  # the tie counts half


def test_more_annotators_get_fleiss() -> None:
    report = measure([("r:1", ["x", "x", "y"]), ("r:2", ["y", "y", "y"])], seed=7)
    assert report.kappa.name == "fleiss_kappa"


def test_order_of_categories_decides_ordinal_alpha() -> None:
    rows = [(f"r:{i}", labels) for i, labels in enumerate([["bad", "usable"], ["good", "good"], ["bad", "bad"]] * 5)]
    near = measure(rows, scale="ordinal", categories=["bad", "usable", "good"], seed=7)
    far = measure(rows, scale="ordinal", categories=["bad", "good", "usable"], seed=7)
    assert near.alpha.value > far.alpha.value + 0.2
    with pytest.raises(ConfigError, match="the order of the labels is not known: 'bad' is no number"):
        measure(rows, scale="ordinal", seed=7)


def test_numbers_sort_as_numbers() -> None:
    report = measure([("r:1", [10, 9]), ("r:2", [2, 2])], scale="ordinal", seed=7)
    assert report.categories == ("2", "9", "10")
    interval = measure([("r:1", [10, 9]), ("r:2", [2, 2]), ("r:3", [9, 10])], scale="interval", seed=7)
    assert interval.alpha.value > 0.9  # 9 and 10 are near each other


def test_categories_that_nobody_used_are_in_the_distribution() -> None:
    report = measure([("r:1", ["x", "x"])], categories=["x", "never"], seed=7)
    assert report.distribution == {"x": 1, "never": 0}


def test_the_most_disputed_come_first() -> None:
    labels = {i: ["x", "x", "x", "x"] for i in range(30)}
    labels |= {30: ["x", "x", "x", "y"], 31: ["x", "x", "y", "y"], 32: ["x", "y", "z", "w"]}
    report = measure(((f"r:{i}", value) for i, value in labels.items()), seed=7)
    assert [row.id for row in report.disputed] == ["r:32", "r:31", "r:30"]
    assert [round(row.agreement, 3) for row in report.disputed] == [0, 0.333, 0.5]


def test_the_gate() -> None:
    report = measure(ROWS, metric="raw", seed=7)
    refuse_disagreement(report, 0.75)
    refuse_disagreement(report, None)
    with pytest.raises(GateError) as caught:
        refuse_disagreement(report, 0.8)
    assert caught.value.exit_code == 5
    assert "raw agreement is 0.750" in caught.value.problem
    assert "the limit data.annotation.min_agreement is 0.8" in caught.value.problem
    assert "3 of 4 rows all equal" in caught.value.problem
    with pytest.raises(GateError, match=r"Krippendorff's alpha is 0\.5"):
        refuse_disagreement(report, 0.8, metric="alpha")


def test_what_is_undefined_does_not_pass() -> None:
    same = measure([(f"r:{i}", ["x", "x"]) for i in range(5)], seed=7)
    with pytest.raises(GateError, match="undefined: no variance") as caught:
        refuse_disagreement(same, 0.5)
    assert "metric: raw" in caught.value.fix
    refuse_disagreement(same, 0.99, metric="raw")
    single = measure([("r:1", ["x"])], seed=7)
    with pytest.raises(GateError, match="no item has two labels") as caught:
        refuse_disagreement(single, 0.5, metric="raw")
    assert "two annotators" in caught.value.fix


def test_no_labels_anywhere() -> None:
    report = measure([("r:1", None)], seed=7)
    assert (report.labelled, report.double, report.distribution) == (0, 0, {})
    assert json.loads(json.dumps(report.dump(), allow_nan=False))["alpha"]["reason"].startswith("undefined")
    assert "0 of 1 rows" in report.table()[0]


def test_the_report_is_json_and_the_same_every_time() -> None:
    reports = [json.dumps(measure(ROWS, seed=7).dump(), allow_nan=False) for _ in range(2)]
    assert reports[0] == reports[1]
    dumped = json.loads(reports[0])
    assert dumped["raw"]["low"] <= dumped["raw"]["value"] <= dumped["raw"]["high"]
    assert dumped["bad_rows"] == 2
    assert dumped["disputed"][0]["labels"] == {"a": "x", "b": "y"}


def test_the_screen_shows_ten_categories_and_counts_the_rest() -> None:
    report = measure([(f"r:{i}", [f"c{i:02}", f"c{i:02}"]) for i in range(30)], consensus="majority", seed=7)
    line = next(line for line in report.table() if "consensus" in line)
    assert "c09 1 and 20 more; 0 tie(s)" in line
    assert len(report.dump()["distribution"]) == 30


def test_collecting_one_by_one_is_the_same() -> None:
    collected = Collected()
    for row_id, value in ROWS:
        collected.add(row_id, value)
    report = summarize(collected, scale="nominal", consensus="dawid_skene", metric="alpha", seed=7)
    assert report.dump() == measure(ROWS, seed=7).dump()


def test_reasons_and_annotators_are_bounded() -> None:
    bad = [(f"r:{i}", {"a": f"word {i}"}) for i in range(200)]
    good = [(f"g:{i}", {f"annotator {i % 80}": "x", f"annotator {(i + 1) % 80}": "y"}) for i in range(160)]
    report = measure([*bad, *good], categories=["x", "y"], seed=7)
    assert len(report.bad) == 21
    assert sum(entry.count for entry in report.bad) == 200
    assert len(report.dump()["annotators"]) == 50
    assert report.dump()["annotators_left_out"] == 30


def test_the_better_annotator_wins_where_two_disagree() -> None:
    """500 rows of three, where c is a guesser, then rows of a and c alone that differ."""
    random = np.random.default_rng(1)
    rows = [(f"r:{i}", {"a": str(i % 2), "b": str(i % 2), "c": str(random.integers(2))}) for i in range(500)]
    rows += [(f"d:{i}", {"c": str(1 - i % 2), "a": str(i % 2)}) for i in range(20)]
    report = measure(rows, seed=7)
    assert [report.consensus_of(f"d:{i}") for i in range(20)] == [str(i % 2) for i in range(20)]
    assert measure(rows, consensus="majority", seed=7).ties == 20


def test_consensus_is_written_where_it_is_wanted() -> None:
    metadata = {"labels": ["x"], "intent": "old"}
    assert with_consensus(metadata, "metadata.intent", "x") == {"labels": ["x"], "intent": "x"}
    assert with_consensus({"a": {"c": 1}}, "a.b", "x") == {"a": {"c": 1, "b": "x"}}
    assert with_consensus(metadata, "metadata.intent", None) is metadata
    assert metadata["intent"] == "old"


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"consensus": "none", "write_to": "metadata.intent"}, "write_to needs a consensus"),
        ({"write_to": "labels"}, "would overwrite the labels"),
        ({"categories": ["x", "x"]}, "listed twice"),
        ({"scale": "interval", "categories": ["1", "two"]}, "categories that are numbers"),
        ({"min_agreement": 1.5}, "less than or equal to 1"),
        ({"metrics": "raw"}, "Extra inputs"),
    ],
)
def test_settings_that_are_refused(settings, fault) -> None:
    with pytest.raises(ValidationError, match=fault):
        AnnotationConfig(**settings)


def test_the_guide_prints_what_it_shows() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    code, shown = (re.search(rf"```{kind}\n(.*?)```", text, re.DOTALL)[1] for kind in ("python", "text"))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    assert printed.getvalue() == shown
