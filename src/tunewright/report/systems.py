"""Every system of the comparison in one table: base, tuned and the rivals, with time and cost an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.core.scoring import Score
from tunewright.report.numbers import brief, money, p_value, readable, scale_of
from tunewright.report.verdict import as_difference, outcome

MOST_FURTHER = 4
"""Further metrics that have a column of their own beside the primary one."""


@dataclass(frozen=True)
class Cell:
    """A score with its interval; empty texts where the system has none."""

    value: str = ""
    interval: str = ""


@dataclass(frozen=True)
class SystemRow:
    """One system. difference: tuned minus this one on the primary metric; verdict: of the tuned model against it."""

    name: str
    kind: str
    n: str
    cells: tuple[Cell, ...]
    difference: str
    difference_interval: str
    p: str
    verdict: str
    seconds: str
    cost: str
    notes: str


@dataclass(frozen=True)
class SystemTable:
    """metrics: the primary one first, then further ones that a rival has too; rows: base, tuned, rivals."""

    metrics: tuple[str, ...]
    rows: tuple[SystemRow, ...]


def system_table(scores: Mapping[str, Any] | None) -> SystemTable | None:
    """From scores.json; None where no rival was asked."""
    if not scores or not scores.get("rivals"):
        return None
    rivals: Sequence[Mapping[str, Any]] = scores["rivals"]
    primary = scores["primary"]
    shared = [key for key in scores["tuned"] if key != primary and any(key in rival["scores"] for rival in rivals)]
    metrics = (primary, *shared[:MOST_FURTHER])
    paired = {"base": scores["paired"], "tuned": {}}
    own = [
        {
            "name": name,
            "kind": name,
            "scores": scores[name],
            "paired": pairs,
            "seconds_per_answer": _seconds(scores, name),
        }
        for name, pairs in paired.items()
    ]
    ours = Score.model_validate(scores["tuned"][primary]) if primary in scores["tuned"] else None
    return SystemTable(metrics, tuple(_row(system, metrics, ours) for system in (*own, *rivals)))


def _seconds(scores: Mapping[str, Any], name: str) -> float | None:
    """Measured for the tuned model where it has rivals."""
    found: float | None = (scores.get("notes") or {}).get(name, {}).get("seconds_per_answer")
    return found


def _row(system: Mapping[str, Any], metrics: Sequence[str], ours: Score | None) -> SystemRow:
    """ours: the tuned model's primary score."""
    primary = metrics[0]
    score, paired = system["scores"].get(primary), system["paired"].get(primary)
    scale = scale_of(primary, ours.unit if ours else "")
    seconds, cost = system.get("seconds_per_answer"), system.get("cost_per_thousand")
    return SystemRow(
        name=readable(system["name"], 80),
        kind=readable(system["kind"], 40),
        n=f"{score['n']:,}" if score else "",
        cells=tuple(_cell(system["scores"].get(metric)) for metric in metrics),
        difference=scale.change(paired["difference"]) if paired else "",
        difference_interval=scale.changes(paired["low"], paired["high"]) if paired else "",
        p=p_value(paired.get("p_holm", paired["p"])) if paired else "",
        verdict=outcome(as_difference({"metric": primary, "test": "", "n": 0, **paired}), ours)
        if paired and ours
        else "",
        seconds="" if seconds is None else brief(seconds),
        cost="" if cost is None else money(cost, system.get("currency") or ""),
        notes=readable(_notes(system), 400),
    )


def _cell(score: Mapping[str, Any] | None) -> Cell:
    if score is None:
        return Cell("–")
    found = Score.model_validate(score)
    scale = scale_of(found.metric, found.unit)
    return Cell(scale.show(found.value), scale.interval(found.low, found.high))


def _notes(system: Mapping[str, Any]) -> str:
    """Why it is cheaper, and the notes: a text, or facts by name without those that are 0 or said elsewhere."""
    notes, why = system.get("notes"), [str(system["why"])] if system.get("why") else []
    if isinstance(notes, Mapping):
        told = {name: value for name, value in notes.items() if value and name not in ("seconds", "rows")}
        return "; ".join([*why, *(f"{name.replace('_', ' ')}: {value}" for name, value in told.items())])
    return "; ".join([*why, str(notes)] if notes else why)
