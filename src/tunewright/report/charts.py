"""The charts of the page: data in, one SVG string out. Every axis has a unit and ticks; nothing is colour alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunewright.report import svg
from tunewright.report.scale import Axis, axis, thinned

Points = Sequence[tuple[float, float]]
MOST_POINTS = 300
ENGINE_SHAPES = {"transformers": "circle", "llama.cpp": "square"}


@dataclass(frozen=True)
class Dot:
    """A value with its 95 % interval in axis units, and as it is written."""

    value: float
    low: float
    high: float
    shown: str


@dataclass(frozen=True)
class DotRow:
    """One metric: base against tuned; `floor` is what a wrong answer scores."""

    metric: str
    base: Dot
    tuned: Dot
    floor: float | None = None


@dataclass(frozen=True)
class DotPlot:
    """Metrics that share an axis. `ends` fixes it, such as (0, 100) for percent; None: what the values need from 0."""

    rows: tuple[DotRow, ...]
    title: str
    unit: str
    ends: tuple[float, float] | None = None


@dataclass(frozen=True)
class VariantPoint:
    """One quantized variant: size in bytes, score with interval in axis units."""

    scheme: str
    bytes: int
    score: float
    low: float
    high: float
    engine: str
    accepted: bool


def loss_curve(train: Points, validation: Points, *, best_step: int | None, width: int) -> str:
    """Training and validation loss by optimizer step. train, validation: (step, nats a trained token)."""
    left, right, top, bottom = 52, width - 14, 66, 286
    seen = [*thinned(train, MOST_POINTS), *validation]
    last_step = max(x for x, _ in seen)
    across = axis([0.0, last_step], start=left, stop=right, count=min(width // 90, max(1, round(last_step))))
    upward = axis([y for _, y in seen], start=bottom, stop=top, zero=True)
    body = svg.bottom_axis(across, top=top, bottom=bottom, title="optimizer step")
    body += svg.left_axis(upward, left=left, right=right, title="loss (nats per trained token)")
    body += _loss_legend()
    body += _best_line(validation, best_step, across, top=top, bottom=bottom)
    body += svg.path([(across.at(x), upward.at(y)) for x, y in thinned(train, MOST_POINTS)], "line train")
    held_out = [(across.at(x), upward.at(y)) for x, y in validation]
    body += svg.path(held_out, "line validation")
    body += "".join(svg.marker(x, y, "diamond", "mark validation") for x, y in held_out)
    last = f"training loss from {train[0][1]:.3f} to {train[-1][1]:.3f}. " if train else ""
    description = f"{last}Validation loss measured {len(validation)} times" + (
        f", lowest at step {best_step}." if best_step is not None else "."
    )
    return svg.document(body, width=width, height=bottom + 42, title="Loss curves", description=description)


def _loss_legend() -> str:
    return (
        svg.line((0, 14), (22, 14), "line train")
        + svg.text(28, 18, "training")
        + svg.line((100, 14), (122, 14), "line validation")
        + svg.marker(111, 14, "diamond", "mark validation")
        + svg.text(128, 18, "validation")
    )


def _best_line(validation: Points, best_step: int | None, across: Axis, *, top: float, bottom: float) -> str:
    if best_step is None:
        return ""
    loss = dict(validation).get(best_step)
    x = across.at(best_step)
    words = f"best: step {best_step}" + (f", {loss:.3f}" if loss is not None else "")
    is_right = x - svg.text_width(words) > 52
    label = svg.text(x - 6 if is_right else x + 6, top + 14, words, "note", "end" if is_right else "start")
    return svg.line((x, top), (x, bottom), "best") + label


def dot_plot(plot: DotPlot, *, width: int) -> str:
    """Base (hollow circle) and tuned (filled square) with 95 % intervals, one metric a row."""
    rows, left, right, top, row_height = plot.rows, 14, width - 118, 40, 62
    values = [v for row in rows for d in (row.base, row.tuned) for v in (d.low, d.value, d.high)]
    values += plot.ends or ()
    across = axis(values, start=left, stop=right, count=max(3, width // 110), zero=True)
    bottom = top + row_height * len(rows)
    body = svg.bottom_axis(across, top=top, bottom=bottom, title=plot.unit)
    body += _dot_legend(has_floor=any(row.floor is not None for row in rows))
    for index, row in enumerate(rows):
        y = top + row_height * index
        body += svg.text(left, y + 15, row.metric, "row-title")
        if row.floor is not None:
            body += svg.line((across.at(row.floor), y + 22), (across.at(row.floor), y + 56), "floor")
        for dot, down, shape, kind in ((row.base, 29, "circle", "base"), (row.tuned, 48, "square", "tuned")):
            body += svg.whisker_x(across.at(dot.low), across.at(dot.high), y + down, f"line {kind}")
            body += svg.marker(across.at(dot.value), y + down, shape, f"mark {kind}")
            body += svg.text(right + 12, y + down + 4, dot.shown, "value")
    said = "; ".join(f"{row.metric}: base {row.base.shown}, tuned {row.tuned.shown}" for row in rows)
    return svg.document(body, width=width, height=bottom + 42, title=plot.title, description=said)


def _dot_legend(*, has_floor: bool) -> str:
    drawn = svg.marker(8, 14, "circle", "mark base") + svg.text(18, 18, "base")
    drawn += svg.marker(70, 14, "square", "mark tuned") + svg.text(80, 18, "tuned")
    if has_floor:
        drawn += svg.line((138, 6), (138, 22), "floor") + svg.text(144, 18, "wrong-answer floor")
    return drawn


def size_against_score(points: Sequence[VariantPoint], *, metric: str, unit: str, width: int) -> str:
    """Bytes against task score. The mark's shape is the engine; a refused variant is hollow, crossed and named."""
    left, right = 52, width - 16
    scale, size_unit = (1e9, "GB") if max(point.bytes for point in points) >= 2e9 else (1e6, "MB")
    across = axis([point.bytes / scale for point in points], start=left, stop=right, count=width // 100, zero=True)
    labels, rows = _label_rows([(across.at(p.bytes / scale), _name(p)) for p in points], left=0, right=width)
    top = 48 + 16 * rows + 24
    bottom = top + 230
    values = [value for point in points for value in (point.low, point.score, point.high)]
    upward = axis(values, start=bottom, stop=top)
    body = svg.bottom_axis(across, top=top, bottom=bottom, title=f"weights on disk ({size_unit})")
    body += svg.left_axis(upward, left=left, right=right, title=f"{metric} ({unit})") + _engine_legend(points)
    for point, (label_x, row) in zip(points, labels, strict=True):
        x, y = across.at(point.bytes / scale), upward.at(point.score)
        label_y = 48 + 16 * row
        body += svg.line((x, label_y + 4), (x, min(upward.at(point.high), y - 6) - 2), "leader")
        body += svg.text(label_x, label_y, _name(point), "note")
        body += _variant_mark(point, x, (upward.at(point.low), y, upward.at(point.high)))
    said = "; ".join(f"{_name(p)}: {p.bytes / scale:.1f} {size_unit}, {p.score:.1f} {unit}, {p.engine}" for p in points)
    return svg.document(body, width=width, height=bottom + 42, title="Size against score", description=said)


def _name(point: VariantPoint) -> str:
    return point.scheme if point.accepted else f"{point.scheme} (refused)"


def _variant_mark(point: VariantPoint, x: float, pixels: tuple[float, float, float]) -> str:
    low, y, high = pixels
    kind = "accepted" if point.accepted else "refused"
    drawn = svg.whisker_y(low, high, x, f"line {kind}")
    drawn += svg.marker(x, y, ENGINE_SHAPES.get(point.engine, "triangle"), f"mark {kind}")
    if not point.accepted:
        drawn += svg.line((x - 7, y - 7), (x + 7, y + 7), "line refused")
    return drawn


def _engine_legend(points: Sequence[VariantPoint]) -> str:
    drawn, x = "", 8.0
    for engine in dict.fromkeys(point.engine for point in points):
        drawn += svg.marker(x, 14, ENGINE_SHAPES.get(engine, "triangle"), "mark accepted")
        drawn += svg.text(x + 10, 18, engine)
        x += 26 + svg.text_width(engine)
    return drawn


def _label_rows(labels: list[tuple[float, str]], *, left: float, right: float) -> tuple[list[tuple[float, int]], int]:
    """Places labels near their x, in as few rows as are needed so that none overlap: ([(x, row)], rows)."""
    ends: list[float] = []
    placed: dict[int, tuple[float, int]] = {}
    for index in sorted(range(len(labels)), key=lambda i: labels[i][0]):
        centre, words = labels[index]
        wide = svg.text_width(words)
        x = min(max(centre - wide / 2, left), right - wide)
        row = next((r for r, end in enumerate(ends) if end + 8 <= x), len(ends))
        ends[row : row + 1] = [x + wide]
        placed[index] = (x, row)
    return [placed[index] for index in range(len(labels))], len(ends)


def account_bar(parts: Sequence[tuple[str, int]], *, width: int) -> str:
    """What became of the rows read: one bar, cut into (name, rows), with the counts in the legend."""
    total = sum(count for _, count in parts)
    across = axis([float(total)], start=6, stop=width - 34, zero=True, count=width // 120)
    body = svg.bottom_axis(across, top=36, bottom=66, title="rows")
    start, legend_x, before = across.at(0), 6.0, 0
    for name, count in parts:
        before += count
        end, words = across.at(before), f"{name} {count:,}"
        body += f'<rect x="{start:.1f}" y="40" width="{end - start:.1f}" height="22" class="part {name}"/>'
        body += f'<rect x="{legend_x:.1f}" y="9" width="11" height="11" class="part {name}"/>'
        body += svg.text(legend_x + 17, 19, words)
        start, legend_x = end, legend_x + 34 + svg.text_width(words)
    said = ", ".join(f"{name} {count}" for name, count in parts) + f"; {total} rows read"
    return svg.document(body, width=width, height=108, title="Rows read", description=said)
