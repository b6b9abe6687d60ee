"""Curves of generated metrics: values where they belong, the deciding metric first, old artifacts still shown."""

from __future__ import annotations

from html import unescape
from pathlib import Path
from xml.etree import ElementTree

import pytest
from report_artifacts import TRAIN_FACTS, curve, everything, seal

from tunewright.report.scale import axis
from tunewright.report.stage import run
from tunewright.report.training import metric_charts, metric_curve

SPACE = "{http://www.w3.org/2000/svg}"


def parse(drawn: str) -> ElementTree.Element:
    return ElementTree.fromstring(drawn.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


@pytest.mark.parametrize("width", [720, 340])
def test_a_rate_stands_on_a_percent_axis_and_the_kept_step_is_marked(width: int) -> None:
    points = [(10, 0.25), (20, 0.75), (30, 0.5)]
    root = parse(metric_curve("intent.accuracy", points, rows=32, kept_step=20, width=width))
    words = [node.text for node in root.iter(f"{SPACE}text")]
    assert "intent.accuracy (percent of rows, n = 32)" in words
    assert "kept: step 20, 75.0 %" in words
    across = axis([0, 30], start=52, stop=width - 14, count=width // 90)
    marks = [node.get("points") or "" for node in root.iter(f"{SPACE}polygon")]
    upward = axis([0, 100], start=158, stop=38, count=4, zero=True)
    for (step, value), mark in zip(points, marks, strict=True):
        x, y = across.at(step), upward.at(100 * value)
        assert mark.startswith(f"{x:.1f},{y - 6:.1f} ")
    best = next(node for node in root.iter(f"{SPACE}line") if node.get("class") == "best")
    assert float(best.get("x1") or 0) == pytest.approx(across.at(20), abs=0.06)


def test_the_metric_that_decided_comes_first() -> None:
    assert [entry["metric"] for entry in curve()["metrics"]] == ["rouge1", "intent.accuracy"]
    drawn = [draw(720) for draw in metric_charts(curve(), TRAIN_FACTS)]
    assert "intent.accuracy (" in drawn[0] and "rouge1 (points, 0 to 100, n = 32)" in drawn[1]
    assert metric_charts(None, None) == []


def test_the_page_shows_them_and_says_what_was_kept(tmp_path: Path) -> None:
    workspace, artifacts = everything(tmp_path)
    html = unescape(run(workspace, project_file_name="b.yaml", **artifacts).file("report.html").read_text())
    assert "the step whose weights were kept: the best intent.accuracy." in html
    assert "kept: step 40, 90.0 %" in html
    assert "Answers that the model in training generated for validation rows" in html


def test_an_artifact_of_before_has_no_such_chart(tmp_path: Path) -> None:
    workspace, artifacts = everything(tmp_path)
    old = {key: value for key, value in curve().items() if key != "metrics"}
    facts = {key: value for key, value in TRAIN_FACTS.items() if not key.startswith("best_m")}
    train = seal(workspace, "train", [artifacts["data"]], {"curve.json": old}, facts=facts, config={"old": True})
    html = run(workspace, project_file_name="b.yaml", **{**artifacts, "train": train}).file("report.html").read_text()
    assert "the step whose weights were kept: the lowest validation loss." in html
    assert "kept: step" not in html
