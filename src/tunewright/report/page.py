"""From the content of the artifacts to one HTML text: no script, no outside file, everything escaped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from tunewright.core.files import human_bytes
from tunewright.core.machine import Machine
from tunewright.report import (
    accounting,
    breakdown,
    charts,
    comparison,
    confusion,
    numbers,
    quantization,
    samples,
    training,
)
from tunewright.report.effect import effect_view
from tunewright.report.lineage import Link, breaks
from tunewright.report.memorization import leaks
from tunewright.report.proof import proof
from tunewright.report.systems import system_table
from tunewright.report.verdict import verdict

WIDE, NARROW = 720, 340
"""Pixels: each chart is drawn for a desk and for a phone, and the style sheet shows one of them."""

_TRAINING: dict[str, tuple[str, Callable[[Any], str]]] = {
    "method": ("method", str),
    "dtype": ("number format", str),
    "trained_parameters": ("trained parameters", numbers.count),
    "total_parameters": ("parameters in all", numbers.count),
    "steps": ("optimizer steps", numbers.count),
    "best_step": ("best step", numbers.count),
    "best_metric": ("best by", str),
    "validation_loss": ("validation loss at the best step (nats per trained token)", "{:.4f}".format),
    "stopped_early": ("stopped early", accounting.cell),
    "overfitting": ("warning", str),
    "resumed": ("resumed after a stop", accounting.cell),
    "tokens": ("tokens", accounting.cell),
    "tokens_per_second": ("tokens per second", "{:,.0f}".format),
    "seconds": ("time", numbers.seconds),
    "peak_memory_bytes": ("peak memory", human_bytes),
}
_SERVING: dict[str, tuple[str, Callable[[Any], str]]] = {
    "variant": ("served", str),
    "engine": ("engine", str),
    "first_token_s": ("time to the first token", "{:.3f} s".format),
    "tokens_per_second": ("generated tokens per second, all requests together", "{:,.1f}".format),
    "requests": ("requests", numbers.count),
    "concurrency": ("at the same time", numbers.count),
}


@dataclass(frozen=True)
class Content:
    """What the page is made from: parsed files of the artifacts; None where a stage has not run."""

    project: str
    created: str
    data: Mapping[str, Any]
    train_facts: Mapping[str, Any] | None = None
    curve: Mapping[str, Any] | None = None
    scores: Mapping[str, Any] | None = None
    evaluate_config: Mapping[str, Any] = field(default_factory=dict)
    samples: Sequence[Mapping[str, Any]] = ()
    confusion: Mapping[str, Any] | None = None
    memorization: Mapping[str, Any] | None = None
    table: Sequence[Mapping[str, Any]] | None = None
    serving: Mapping[str, Any] | None = None
    proof: Mapping[str, Any] | None = None
    chain: Sequence[Link] = ()
    machines: Sequence[tuple[str, Machine]] = ()
    versions: Sequence[tuple[str, str]] = ()
    commands: Sequence[str] = ()


def render(content: Content) -> str:
    """The page, in UTF-8-safe text."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["human_bytes"] = human_bytes
    template = environment.from_string(_packaged("page.html.j2"))
    # The style sheet is ours and holds no text from outside.
    page = template.render(css=Markup(_packaged("page.css")), **_view(content))  # noqa: S704
    return page.encode("utf-8", "replace").decode("utf-8")


def _packaged(name: str) -> str:
    return resources.files("tunewright.report").joinpath(name).read_text(encoding="utf-8")


def _view(content: Content) -> dict[str, Any]:
    rows, counts = samples.chosen(content.samples, samples.primary_of(content.scores))
    return {
        "content": content,
        "verdict": verdict(content.scores),
        "breaks": breaks(content.chain),
        "accounting": accounting.accounting(content.data),
        "account_bar": both(lambda width: charts.account_bar(accounting.accounting(content.data).parts, width=width)),
        "codes": accounting.code_rows(content.data),
        "tokens": accounting.token_table(content.data.get("tokens") or {}),
        "leakage": accounting.leakage_rows(content.data),
        "training": _facts(content.train_facts, _TRAINING),
        "effect": effect_view(content.train_facts),
        "loss_chart": _loss_chart(content),
        "kept_by": (content.train_facts or {}).get("best_metric", "validation_loss"),
        "metric_charts": [both(draw) for draw in training.metric_charts(content.curve, content.train_facts)],
        "score_rows": comparison.score_rows(content.scores) if content.scores else [],
        "score_charts": _score_charts(content.scores) if content.scores else [],
        "systems": system_table(content.scores),
        "group_tables": [(table, _group_chart(table)) for table in breakdown.group_tables(content.scores)],
        "leaks": leaks(content.memorization),
        "mixed_up": confusion.mixed_up(content.confusion) if content.confusion else [],
        # The matrix escapes its texts itself.
        "confusion_chart": Markup(confusion.matrix(content.confusion)) if content.confusion else None,  # noqa: S704
        "labels_note": comparison.who_sees_labels(content.evaluate_config),
        "samples": rows,
        "sample_counts": [(samples.KINDS[kind], *count) for kind, count in counts.items()],
        "kinds": samples.KINDS,
        "variants": quantization.variant_rows(content.table or ()),
        "variant_chart": _variant_chart(content.table or ()),
        "proof": proof(content.proof),
        "serving": _facts(content.serving, _SERVING),
    }


def both(draw: Callable[[int], str]) -> Markup:
    """A chart for the desk and one for the phone. Charts escape their texts themselves."""
    wide, narrow = (f'<div class="{kind}">{draw(width)}</div>' for kind, width in (("wide", WIDE), ("narrow", NARROW)))
    return Markup(wide + narrow)  # noqa: S704


def _loss_chart(content: Content) -> Markup | None:
    if content.curve is None:
        return None
    train, validation = (
        [(float(row["step"]), float(row["loss"])) for row in content.curve[part]] for part in ("train", "validation")
    )
    if not train and not validation:
        return None
    best = (content.train_facts or {}).get("best_step")
    return both(lambda width: charts.loss_curve(train, validation, best_step=best, width=width))


def _score_charts(scores: Mapping[str, Any]) -> list[Markup]:
    drawn = []
    for scale, rows in comparison.dot_rows(scores).items():
        title = f"Base against tuned, {scale.unit}"
        plot = charts.DotPlot(tuple(rows), title, scale.unit, scale.ends)
        drawn.append(both(lambda width, plot=plot: charts.dot_plot(plot, width=width)))  # type: ignore[misc]
    return drawn


def _group_chart(table: breakdown.GroupTable) -> Markup:
    return both(lambda width: breakdown.change_chart(table, width=width))


def _variant_chart(table: Sequence[Mapping[str, Any]]) -> Markup | None:
    metric, scale, points = quantization.variant_points(table)
    if not points:
        return None
    return both(lambda width: charts.size_against_score(points, metric=metric, unit=scale.unit, width=width))


def _facts(
    found: Mapping[str, Any] | None, known: Mapping[str, tuple[str, Callable[[Any], str]]]
) -> list[tuple[str, str]]:
    """(words, value) of the known facts that are there."""
    if not found:
        return []
    return [(words, form(found[key])) for key, (words, form) in known.items() if found.get(key) is not None]
