"""The quantization section: the table as it is written, and the points of its chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.core.files import human_bytes
from tunewright.report.charts import VariantPoint
from tunewright.report.numbers import Scale, p_value, readable, scale_of


@dataclass(frozen=True)
class VariantRow:
    """One variant, as it is written."""

    scheme: str
    accepted: bool
    bytes: str
    ratio: str
    engine: str
    tokens_per_second: str
    latency: str
    score: str
    interval: str
    change: str
    p: str
    perplexity: str
    perplexity_engine: str
    agreement: str
    note: str
    predicted: str = ""
    tokens_per_second_b8: str = ""
    peak: str = ""
    perplexity_p: str = ""
    engine_build: str = ""
    article: str = ""


def variant_rows(table: Sequence[Mapping[str, Any]]) -> list[VariantRow]:
    """In the order of table.json."""
    return [_row(row) for row in table]


def _row(row: Mapping[str, Any]) -> VariantRow:
    scale = scale_of(row["task_metric"] or "")
    score, low, high = row["task_score"], row["task_low"], row["task_high"]
    return VariantRow(
        scheme=row["scheme"],
        accepted=bool(row["accepted"]),
        bytes=human_bytes(row["bytes"]),
        ratio=_number(row["ratio"], ".2f"),
        engine=row["engine"] or "–",
        tokens_per_second=_number(row["tokens_per_second"], ".1f"),
        latency=_number(row["latency_s"], ".2f"),
        score="–" if score is None else scale.show(score),
        interval="" if low is None or high is None else scale.interval(low, high),
        change="–" if row["task_change"] is None else scale.change(row["task_change"]),
        p="" if row["task_p"] is None else p_value(row["task_p"]),
        perplexity=_number(row["perplexity"], ".2f"),
        perplexity_engine=row["perplexity_engine"] or "",
        agreement="–" if row["agreement"] is None else f"{row['agreement'] * 100:.1f} %",
        note=readable(row["note"] or "", 400),
        predicted=human_bytes(row["predicted_bytes"]) if row.get("predicted_bytes") else "–",
        tokens_per_second_b8=_number(row.get("tokens_per_second_b8"), ".1f"),
        peak=human_bytes(row["peak_bytes"]) if row.get("peak_bytes") else "–",
        perplexity_p="" if row.get("perplexity_p") is None else p_value(row["perplexity_p"]),
        engine_build=row.get("engine_build") or "",
        article=readable(row.get("article") or "", 400),
    )


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def variant_points(table: Sequence[Mapping[str, Any]]) -> tuple[str, Scale, list[VariantPoint]]:
    """(metric, scale, points) of the variants that have a task score."""
    measured = [row for row in table if row["task_score"] is not None]
    metric = next((str(row["task_metric"]) for row in measured), "")
    scale = scale_of(metric)
    return metric, scale, [_point(row, scale.factor) for row in measured]


def _point(row: Mapping[str, Any], factor: float) -> VariantPoint:
    score = row["task_score"]
    low, high = (score if row[key] is None else row[key] for key in ("task_low", "task_high"))
    return VariantPoint(
        scheme=row["scheme"],
        bytes=row["bytes"],
        score=score * factor,
        low=low * factor,
        high=high * factor,
        engine=row["engine"] or "no engine",
        accepted=bool(row["accepted"]),
    )
