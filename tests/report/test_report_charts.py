"""Charts put values where they belong, name their units and escape their texts."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from tunewright.report import charts
from tunewright.report.charts import Dot, DotPlot, DotRow, VariantPoint
from tunewright.report.scale import axis, nice_step, thinned
from tunewright.report.svg import text_width

SPACE = "{http://www.w3.org/2000/svg}"


def parse(drawn: str) -> ElementTree.Element:
    return ElementTree.fromstring(drawn.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def texts(drawn: str, kind: str) -> list[str]:
    return [node.text or "" for node in parse(drawn).iter(f"{SPACE}text") if node.get("class") == kind]


@pytest.mark.parametrize(
    ("span", "count", "step"), [(100, 5, 20), (3, 5, 1), (0.9, 5, 0.2), (7.4e6, 5, 2e6), (12, 5, 2.5)]
)
def test_step_is_round_and_small_enough(span: float, count: int, step: float) -> None:
    assert nice_step(span, count) == pytest.approx(step)


def test_axis_holds_all_values_and_ends_on_ticks() -> None:
    found = axis([0.31, 2.9], start=200, stop=0, zero=True)
    assert (found.low, found.high) == (found.ticks[0], found.ticks[-1]) == (0.0, 3.0)
    assert found.at(0) == 200 and found.at(3) == 0 and found.at(1.5) == 100
    assert [found.label(tick) for tick in found.ticks] == ["0", "1", "2", "3"]


def test_axis_of_one_value_is_not_empty() -> None:
    found = axis([0.5, 0.5], start=0, stop=100)
    assert found.low < 0.5 < found.high


def test_thinning_keeps_the_mean_and_the_limit() -> None:
    points = [(float(x), float(x % 7)) for x in range(700)]
    few = thinned(points, 100)
    assert len(few) == 100
    assert sum(y for _, y in few) / 100 == pytest.approx(3.0)
    assert thinned(points[:50], 100) == points[:50]


@pytest.mark.parametrize("width", [720, 340])
def test_loss_curve_marks_the_best_step_where_it_is(width: int) -> None:
    validation = [(10.0, 1.5), (20.0, 0.5), (30.0, 0.75)]
    drawn = charts.loss_curve([(1.0, 3.0), (30.0, 0.4)], validation, best_step=20, width=width)
    assert "best: step 20, 0.500" in texts(drawn, "note")
    best = next(node for node in parse(drawn).iter(f"{SPACE}line") if node.get("class") == "best")
    across = axis([0, 30], start=52, stop=width - 14, count=width // 90)
    assert float(best.get("x1") or 0) == pytest.approx(across.at(20), abs=0.06)
    assert "loss (nats per trained token)" in texts(drawn, "axis-title")
    assert "optimizer step" in texts(drawn, "axis-title")


def test_steps_are_whole_numbers() -> None:
    drawn = charts.loss_curve([(1.0, 5.0), (3.0, 4.9)], [(3.0, 5.0)], best_step=3, width=720)
    assert texts(drawn, "tick")[:4] == ["0", "1", "2", "3"]


def test_dot_plot_places_base_and_tuned_by_value() -> None:
    row = DotRow("intent.accuracy", Dot(40, 35, 45, "40.0 %"), Dot(90, 85, 95, "90.0 %"), floor=5)
    drawn = charts.dot_plot(DotPlot((row,), "Scores", "percent of rows", (0, 100)), width=720)
    circle = next(
        n for n in parse(drawn).iter(f"{SPACE}circle") if n.get("class") == "mark base" and n.get("cx") != "8.0"
    )
    assert float(circle.get("cx") or 0) == pytest.approx(14 + 0.4 * (720 - 118 - 14), abs=0.06)
    assert texts(drawn, "value") == ["40.0 %", "90.0 %"]
    assert texts(drawn, "tick") == ["0", "20", "40", "60", "80", "100"]
    assert "wrong-answer floor" in drawn
    without = charts.dot_plot(DotPlot((DotRow("x", row.base, row.tuned),), "S", "u"), width=720)
    assert "wrong-answer floor" not in without


def variant(scheme: str, size: int, *, accepted: bool = True, engine: str = "transformers") -> VariantPoint:
    return VariantPoint(scheme, size, 90.0, 85.0, 95.0, engine, accepted)


def test_refused_variant_is_named_crossed_and_hollow() -> None:
    drawn = charts.size_against_score(
        [variant("bf16", 269_000_000), variant("awq", 114_000_000, accepted=False, engine="llama.cpp")],
        metric="intent.accuracy",
        unit="percent of rows",
        width=720,
    )
    assert texts(drawn, "note") == ["bf16", "awq (refused)"]
    assert len(re.findall(r'class="mark refused"', drawn)) == 1
    assert texts(drawn, "axis-title") == ["weights on disk (MB)", "intent.accuracy (percent of rows)"]
    assert {"transformers", "llama.cpp"} <= set(texts(drawn, ""))


@pytest.mark.parametrize("width", [720, 340])
def test_labels_of_near_variants_do_not_overlap(width: int) -> None:
    sizes = {"awq": 114, "gguf-q4_0": 92, "gguf-q8_0": 118, "int8": 116, "bf16": 120, "gguf-q4_k_m": 119}
    points = [variant(name, size * 1_000_000, accepted=name != "awq") for name, size in sizes.items()]
    drawn = charts.size_against_score(points, metric="m", unit="u", width=width)
    boxes = [
        (float(n.get("y") or 0), float(n.get("x") or 0), float(n.get("x") or 0) + text_width(n.text or ""))
        for n in parse(drawn).iter(f"{SPACE}text")
        if n.get("class") == "note"
    ]
    assert len(boxes) == len(sizes)
    for y, left, right in boxes:
        assert left >= 0 and right <= width
        others = [box for box in boxes if box[0] == y and box[1] != left]
        assert all(end <= left or start >= right for _, start, end in others)


def test_gigabytes_from_two_on() -> None:
    drawn = charts.size_against_score([variant("bf16", 13_820_000_000)], metric="m", unit="u", width=720)
    assert "weights on disk (GB)" in drawn and "13.8 GB" in drawn


def test_account_bar_is_as_wide_as_the_counts() -> None:
    drawn = charts.account_bar([("kept", 60), ("repaired", 30), ("quarantined", 10)], width=720)
    bars = [n for n in parse(drawn).iter(f"{SPACE}rect") if n.get("height") == "22"]
    widths = [float(bar.get("width") or 0) for bar in bars]
    assert widths[0] == pytest.approx(2 * widths[1], abs=0.2)
    assert widths[1] == pytest.approx(3 * widths[2], abs=0.3)


def test_text_from_outside_is_escaped() -> None:
    row = DotRow("<script>x</script>", Dot(1, 1, 1, "1 & 2"), Dot(1, 1, 1, "1"))
    drawn = charts.dot_plot(DotPlot((row,), "<b>", "u"), width=340)
    assert "<script>" not in drawn and "<b>" not in drawn and "1 &amp; 2" in drawn
