"""Base against tuned by groups of rows: tables and a picture of the changes, the worst first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.report import svg
from tunewright.report.numbers import Scale, p_value, readable, scale_of
from tunewright.report.scale import Axis, axis
from tunewright.report.verdict import as_outcome

SHOWN = 12
"""Groups that stand open on the page; the rest are folded away."""
_ROW, _VALUE, _NAME = 26, 96, 0.34
"""Pixels of a row of the picture and of the number beside it; share of the width that names may take."""


@dataclass(frozen=True)
class GroupRow:
    """One group of rows, as it is written. few: too few rows for a verdict."""

    group: str
    n: str
    base: str
    base_interval: str
    tuned: str
    tuned_interval: str
    difference: str
    difference_interval: str
    p: str
    verdict: str
    few: bool


@dataclass(frozen=True)
class GroupTable:
    """A metric by one way of grouping. first, rest: groups that stand open and those folded away."""

    metric: str
    primary: bool
    by: str
    note: str
    first: tuple[GroupRow, ...]
    rest: tuple[GroupRow, ...]
    data: Mapping[str, Any]

    @property
    def few(self) -> int:
        """How many groups have too few rows for a verdict."""
        return sum(row.few for row in (*self.first, *self.rest))


def group_tables(scores: Mapping[str, Any] | None) -> list[GroupTable]:
    """From the `breakdown` of scores.json, in its order; empty where the evaluation is older than that."""
    found = scores or {}
    return [_table(entry, found.get("primary")) for entry in found.get("breakdown") or () if entry["groups"]]


def _table(entry: Mapping[str, Any], primary: str | None) -> GroupTable:
    scale = scale_of(entry["metric"], entry.get("unit", ""))
    sign = 1 if entry.get("higher_is_better", True) else -1
    groups = sorted(entry["groups"], key=lambda group: sign * group["difference"]["difference"])
    rows = [_row(group, scale) for group in groups]
    return GroupTable(
        metric=entry["metric"],
        primary=entry["metric"] == primary,
        by=readable(entry["by"], 80),
        note=readable(entry.get("note", ""), 200),
        first=tuple(rows[:SHOWN]),
        rest=tuple(rows[SHOWN:]),
        data={**entry, "groups": groups},
    )


def _row(group: Mapping[str, Any], scale: Scale) -> GroupRow:
    base, tuned, found = group["base"], group["tuned"], group["difference"]
    p = found.get("p_holm")
    return GroupRow(
        group=readable(group["group"], 80),
        n=f"{group['n']:,}",
        base=scale.show(base["value"]),
        base_interval=scale.interval(base["low"], base["high"]),
        tuned=scale.show(tuned["value"]),
        tuned_interval=scale.interval(tuned["low"], tuned["high"]),
        difference=scale.change(found["difference"]),
        difference_interval=scale.changes(found["low"], found["high"]),
        p="" if p is None else p_value(p),
        verdict=as_outcome(found["verdict"]),
        few=p is None,
    )


def change_chart(table: GroupTable, *, width: int) -> str:
    """An inline SVG: tuned minus base of the open groups with 95 % intervals around a line at 0. A group of too few
    rows is hollow."""
    groups: Sequence[Mapping[str, Any]] = table.data["groups"][: len(table.first)]
    scale = scale_of(table.metric, table.data.get("unit", ""))
    names = [_cut(row.group, width * _NAME) for row in table.first]
    left = max(svg.text_width(name) for name in names) + 12
    top, bottom = 24, 24 + _ROW * len(groups)
    found = [group["difference"] for group in groups]
    values = [one[part] * scale.factor for one in found for part in ("low", "difference", "high")]
    across = axis([*values, 0.0], start=left, stop=width - _VALUE, count=max(3, width // 130))
    title = f"tuned − base ({scale.difference_suffix.strip() or scale.unit})"
    body = svg.bottom_axis(across, top=top - 8, bottom=bottom, title=title)
    body += svg.line((across.at(0), top - 8), (across.at(0), bottom), "zero")
    for place, (name, row, one) in enumerate(zip(names, table.first, found, strict=True)):
        y = top + _ROW * place + _ROW / 2 - 6
        body += svg.text(left - 10, y + 4, name, "", "end") + _mark(one, row, across, scale=scale, y=y)
        body += svg.text(width - _VALUE + 12, y + 4, row.difference.replace(" points", ""), "value")
    said = "; ".join(f"{row.group}: {row.difference} ({row.verdict})" for row in table.first)
    shown = f"{table.metric} by {table.by}: change"
    return svg.document(body, width=width, height=bottom + 42, title=shown, description=said)


def _mark(found: Mapping[str, Any], row: GroupRow, across: Axis, *, scale: Scale, y: float) -> str:
    kind = "even" if row.few else {"better": "gain", "worse": "loss"}.get(row.verdict, "even")
    low, value, high = (across.at(found[part] * scale.factor) for part in ("low", "difference", "high"))
    shape = {"gain": "triangle", "loss": "square"}.get(kind, "circle")
    return svg.whisker_x(low, high, y, f"line {kind}") + svg.marker(value, y, shape, f"mark {kind}")


def _cut(name: str, most: float) -> str:
    if svg.text_width(name) <= most:
        return name
    kept = next(size for size in range(len(name), -1, -1) if svg.text_width(name[:size]) <= most - 12)
    return f"{name[:kept]}…"
