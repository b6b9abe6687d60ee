"""The curves of metrics of generated answers while training, one small chart a metric."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from tunewright.report import svg
from tunewright.report.numbers import Scale, scale_of
from tunewright.report.scale import axis

Draw = Callable[[int], str]
"""From a width in pixels to a chart."""


def metric_charts(curve: Mapping[str, Any] | None, facts: Mapping[str, Any] | None) -> list[Draw]:
    """A chart for each metric of the training's curve; the one that decided comes first."""
    entries = list((curve or {}).get("metrics", ()))
    decided = (facts or {}).get("best_metric")
    entries.sort(key=lambda entry: entry["metric"] != decided)
    kept = (facts or {}).get("best_step")
    return [partial(_draw, entry, kept) for entry in entries]


def _draw(entry: Mapping[str, Any], kept: int | None, width: int) -> str:
    points = [(int(point["step"]), float(point["value"])) for point in entry["points"]]
    return metric_curve(entry["metric"], points, rows=entry["n"], kept_step=kept, width=width)


def metric_curve(
    metric: str, points: Sequence[tuple[int, float]], *, rows: int, kept_step: int | None, width: int
) -> str:
    """One metric by optimizer step, measured on `rows` validation rows. The dotted line is the step that was kept."""
    scale = scale_of(metric)
    left, right, top, bottom = 52, width - 14, 38, 158
    last = max(step for step, _ in points)
    across = axis([0.0, float(last)], start=left, stop=right, count=min(width // 90, max(1, last)))
    values = [value * scale.factor for _, value in points]
    upward = axis([*values, *(scale.ends or ())], start=bottom, stop=top, count=4, zero=True)
    body = svg.bottom_axis(across, top=top, bottom=bottom, title="optimizer step")
    body += svg.left_axis(upward, left=left, right=right, title=f"{metric} ({scale.unit}, n = {rows})")
    placed = [(across.at(step), upward.at(value)) for (step, _), value in zip(points, values, strict=True)]
    body += svg.path(placed, "line validation")
    body += "".join(svg.marker(x, y, "diamond", "mark validation") for x, y in placed)
    shown = dict(points).get(kept_step) if kept_step is not None else None
    if kept_step is not None and shown is not None:
        body += _kept_line(across.at(kept_step), f"kept: step {kept_step}, {scale.show(shown)}", top=top, bottom=bottom)
    said = f"{metric} from {_said(scale, points[0])} to {_said(scale, points[-1])}, {len(points)} evaluations."
    return svg.document(body, width=width, height=bottom + 42, title=f"{metric} while training", description=said)


def _kept_line(x: float, words: str, *, top: float, bottom: float) -> str:
    is_right = x - svg.text_width(words) > 52
    label = svg.text(x - 6 if is_right else x + 6, bottom - 8, words, "note", "end" if is_right else "start")
    return svg.line((x, top), (x, bottom), "best") + label


def _said(scale: Scale, point: tuple[int, float]) -> str:
    return f"{scale.show(point[1])} at step {point[0]}"
