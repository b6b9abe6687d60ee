"""Base against tuned: the rows of the table and the dot plots, one plot a scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunewright.core.scoring import Score
from tunewright.report.charts import Dot, DotRow
from tunewright.report.numbers import Scale, p_value, scale_of
from tunewright.report.verdict import as_difference, outcome


@dataclass(frozen=True)
class ScoreRow:
    """One metric of the table, as it is written."""

    metric: str
    primary: bool
    n: str
    base: str
    base_interval: str
    tuned: str
    tuned_interval: str
    difference: str
    difference_interval: str
    p: str
    test: str
    verdict: str
    floor: str
    signature: str


def score_rows(scores: Mapping[str, Any]) -> list[ScoreRow]:
    """The primary metric first, then in the order of scores.json."""
    names = sorted(scores["tuned"], key=lambda name: name != scores["primary"])
    return [_row(name, scores) for name in names]


def _row(name: str, scores: Mapping[str, Any]) -> ScoreRow:
    tuned = Score.model_validate(scores["tuned"][name])
    base = Score.model_validate(scores["base"][name]) if name in scores["base"] else None
    paired = as_difference(scores["paired"][name]) if name in scores["paired"] else None
    scale = scale_of(name, tuned.unit)
    return ScoreRow(
        metric=name,
        primary=name == scores["primary"],
        n=f"{tuned.n:,}",
        base=scale.show(base.value) if base else "not measured",
        base_interval=scale.interval(base.low, base.high) if base else "",
        tuned=scale.show(tuned.value),
        tuned_interval=scale.interval(tuned.low, tuned.high),
        difference=scale.change(paired.difference) if paired else "not compared",
        difference_interval=scale.changes(paired.low, paired.high) if paired else "",
        p=p_value(paired.p) if paired else "",
        test=paired.test if paired else "",
        verdict=outcome(paired, tuned) if paired else "not compared",
        floor=scale.show(tuned.floor) if tuned.floor is not None else "",
        signature=tuned.signature,
    )


def dot_rows(scores: Mapping[str, Any]) -> dict[Scale, list[DotRow]]:
    """Metrics that both models have, by the scale they share."""
    groups: dict[Scale, list[DotRow]] = {}
    for name in scores["tuned"]:
        if name not in scores["base"]:
            continue
        tuned, base = (Score.model_validate(scores[part][name]) for part in ("tuned", "base"))
        scale = scale_of(name, tuned.unit)
        floor = tuned.floor * scale.factor if tuned.floor is not None else None
        groups.setdefault(scale, []).append(DotRow(name, _dot(base, scale), _dot(tuned, scale), floor))
    return groups


def _dot(score: Score, scale: Scale) -> Dot:
    value, low, high = (number * scale.factor for number in (score.value, score.low, score.high))
    return Dot(value, low, high, scale.show(score.value))


def who_sees_labels(config: Mapping[str, Any]) -> str:
    """Who was shown the list of labels, from evaluate's settings; empty where no metric has labels."""
    told = {
        "none": "Neither model was shown the list of labels.",
        "base": "The base model was shown the list of labels in its prompt; the tuned model was not: it learned them.",
        "all": "Both models were shown the list of labels in the prompt.",
    }
    return next((told[value] for value in _values_of("labels_in_prompt", config) if value in told), "")


def _values_of(key: str, node: Any) -> list[Any]:
    if isinstance(node, Mapping):
        own = [node[key]] if key in node else []
        return own + [value for child in node.values() for value in _values_of(key, child)]
    if isinstance(node, list | tuple):
        return [value for child in node for value in _values_of(key, child)]
    return []
