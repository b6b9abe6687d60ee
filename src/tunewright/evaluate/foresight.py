"""What is known of every metric before a model answers: rows, kind, and the spread of an earlier run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tunewright.core.chat import Conversation
from tunewright.core.errors import ArtifactError, ConfigError
from tunewright.core.runs import Artifact, Workspace
from tunewright.core.scoring import Z_95, Measured, Sample, wilson
from tunewright.evaluate.config import METRICS, EvaluateConfig, LatencyOptions
from tunewright.evaluate.of_model import OfModel
from tunewright.evaluate.power import Known
from tunewright.evaluate.scorer import RowMetric, named_keys

PROBED = 8
"""Rows that tell what kind of number a metric gives."""
SCORES = "scores.json"


def known(
    config: EvaluateConfig,
    rows: Sequence[Conversation],
    metrics: Sequence[RowMetric],
    *,
    workspace: Workspace,
    earlier: Sequence[Artifact],
    of_model: OfModel | None = None,
) -> list[Known]:
    """An entry for each metric key that these rows give, the primary one first. earlier: evaluations of the same test
    rows, the newest of which that measured a key tells its spread. Raises ConfigError when `primary` or a gate names a
    key that no row gives."""
    gated = {gate.metric for gate in config.gates}
    found = [entry for metric in metrics for entry in _of_rows(metric, rows, gated | {config.primary})]
    found += [
        Known(key, "unpaired", options.repeats, scale=math.inf, unit="s")
        for options in config.metrics
        if isinstance(options, LatencyOptions)
        for key in METRICS.target(options.name).metric_keys(options)
    ]
    found += [_known(one, len(one.statistics)) for one in (of_model.foresee(rows) if of_model else ())]
    unforeseen = of_model.folder_keys if of_model else []
    _require(config, [*(entry.metric for entry in found), *unforeseen], rows=len(rows))
    learned = [_learned(entry, workspace, earlier) for entry in found]
    return sorted(learned, key=lambda entry: entry.metric != config.primary)


def _require(config: EvaluateConfig, given: Sequence[str], *, rows: int) -> None:
    missing = [(place, key) for place, key in named_keys(config) if key not in given]
    faults = [f"{place}: '{key}' is measured on none of the {rows} test rows" for place, key in missing]
    if faults:
        raise ConfigError("\n".join(faults), fix=f"these rows give: {', '.join(given)}")


def _of_rows(metric: RowMetric, rows: Sequence[Conversation], wanted: set[str]) -> list[Known]:
    """The metric is asked about right answers, through `foresee` where it has one. A few rows tell the kind; all are
    asked where a few leave out rows or keys."""
    fitting = [_right(row) for row in rows if metric.applies(row.metadata)]
    few = fitting[:PROBED]
    measure = getattr(metric, "foresee", metric.measure)
    measured = measure(few)
    missing = wanted & set(_keys(metric, measured)) - {entry.metric for entry in measured}
    if missing or any(len(entry.statistics) != len(few) for entry in measured):
        few, measured = fitting, measure(fitting)
    return [
        _known(entry, len(fitting) if len(entry.statistics) == len(few) else len(entry.statistics))
        for entry in measured
    ]


def _known(entry: Measured, n: int) -> Known:
    return Known(
        entry.metric,
        "yes/no" if entry.yes_no else "mean" if entry.paired else "unpaired",
        n,
        scale={"": 1.0, "points": 100.0}.get(entry.unit, math.inf),
        unit=entry.unit,
    )


def _keys(metric: Any, measured: Sequence[Measured]) -> list[str]:
    options = getattr(metric, "options", None)
    return list(metric.metric_keys(options)) if options is not None else [entry.metric for entry in measured]


def _right(row: Conversation) -> Sample:
    return Sample(
        id=row.id,
        prompt="",
        reference=row.reference,
        prediction=row.reference,
        metadata=row.metadata,
        choice=row.reference,
    )


def _learned(entry: Known, workspace: Workspace, earlier: Sequence[Artifact]) -> Known:
    for artifact in reversed(earlier):
        try:
            scores = artifact.json(SCORES)
        except ArtifactError:  # a damaged earlier run tells nothing, and stops nothing
            continue
        pair = scores.get("paired", {}).get(entry.metric)
        if pair and entry.kind != "unpaired":
            return _with_spread(entry, scores, pair, workspace.relative(artifact.path))
    return entry


def _with_spread(entry: Known, scores: Mapping[str, Any], pair: Mapping[str, Any], source: str) -> Known:
    """sd: of one row, from the earlier interval of the difference, which is 2 z standard errors wide. lost: the upper
    end of Wilson's interval, so that a lucky run does not promise too much."""
    sd = (pair["high"] - pair["low"]) / (2 * Z_95) * math.sqrt(pair["n"])
    lost = None
    if entry.kind == "yes/no" and "lost" in pair:
        lost = min(0.5, wilson(min(pair["lost"], pair["gained"]), pair["n"])[1])
    has_spread = lost is not None or (entry.kind == "mean" and sd > 0)
    return Known(
        entry.metric,
        entry.kind,
        entry.n,
        scale=entry.scale,
        unit=entry.unit,
        lost=lost,
        sd=sd if has_spread and lost is None else None,
        base=scores["base"][entry.metric]["value"],
        source=source if has_spread else "",
    )
