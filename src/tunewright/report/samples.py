"""Which answers are shown: what got worse first, because nobody else will show it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.report.numbers import Scale, readable, scale_of

MOST = 30
KEPT_FOR_GAINED = 10
"""Room that is kept for gained rows, so that at least MOST less this many of the rows that got worse are shown."""
KINDS = {
    "lost": "got worse: the base was right, the tuned model is wrong",
    "lower": "got worse: the tuned answer scores below the base's",
    "gained": "gained: the base was wrong, the tuned model is right",
    "higher": "gained: the tuned answer scores above the base's",
    "wrong": "both wrong",
    "equal": "same score",
    "open": "free answers, without a right or wrong",
    "right": "both right",
}
_WORSE, _GAINED = ("lost", "lower"), ("gained", "higher")


@dataclass(frozen=True)
class Shown:
    """One row side by side, as it is written. base_score, tuned_score: of this row alone by the primary metric, empty
    where right and wrong say as much."""

    id: str
    kind: str
    prompt: str
    reference: str
    base: str
    tuned: str
    metadata: str
    base_score: str = ""
    tuned_score: str = ""
    rivals: tuple[tuple[str, str], ...] = ()
    """(name, answer) of the other systems that were asked."""


@dataclass(frozen=True)
class Primary:
    """What the primary metric's numbers mean: how they are written, and which way is better."""

    scale: Scale
    higher_is_better: bool = True


def primary_of(scores: Mapping[str, Any] | None) -> Primary:
    """From scores.json."""
    name = (scores or {}).get("primary", "")
    found = ((scores or {}).get("tuned") or {}).get(name) or {}
    return Primary(scale_of(name, found.get("unit", "")), bool(found.get("higher_is_better", True)))


def kind_of(row: Mapping[str, Any], *, higher_is_better: bool = True) -> str:
    """A key of KINDS: by the scores of the row where it has them, else by right and wrong."""
    before, after = row.get("base_score"), row.get("tuned_score")
    if before is not None and after is not None:
        if before == after:
            return "equal"
        return "higher" if (after > before) == higher_is_better else "lower"
    base, tuned = row.get("base_right"), row.get("tuned_right")
    if base is None or tuned is None:
        return "open"
    return {(True, False): "lost", (False, True): "gained", (False, False): "wrong"}.get((base, tuned), "right")


def chosen(
    rows: Sequence[Mapping[str, Any]], primary: Primary | None = None
) -> tuple[list[Shown], dict[str, tuple[int, int]]]:
    """At most MOST rows in the order of KINDS, and per kind (shown, all); of rows with scores the largest change stands
    first. Gained rows keep some room."""
    primary = primary or Primary(scale_of(""))
    by_kind: dict[str, list[Mapping[str, Any]]] = {kind: [] for kind in KINDS}
    for row in rows:
        by_kind[kind_of(row, higher_is_better=primary.higher_is_better)].append(row)
    gained = sum(len(by_kind[kind]) for kind in _GAINED)
    room, shown = MOST, []
    counts: dict[str, tuple[int, int]] = {}
    for kind, found in by_kind.items():
        held = min(KEPT_FOR_GAINED, gained) if kind in _WORSE else 0
        taken = sorted(found, key=_size, reverse=True)[: max(0, room - held)]
        room -= len(taken)
        shown += [_shown(row, kind, primary) for row in taken]
        if found:
            counts[kind] = (len(taken), len(found))
    return shown, counts


def _size(row: Mapping[str, Any]) -> float:
    """How much the row's score changed; 0 without scores, so that such rows keep their order."""
    before, after = row.get("base_score"), row.get("tuned_score")
    return 0.0 if before is None or after is None else abs(float(after) - float(before))


def _shown(row: Mapping[str, Any], kind: str, primary: Primary) -> Shown:
    prompt = row["prompt"]
    plain = prompt if isinstance(prompt, str) else json.dumps(prompt, ensure_ascii=False, indent=1)
    metadata = " · ".join(f"{key}: {value}" for key, value in (row.get("metadata") or {}).items())
    scores = (row.get("base_score"), row.get("tuned_score"))
    base, tuned = ("" if score is None else primary.scale.show(score) for score in scores)
    return Shown(
        id=readable(row["id"], 200),
        kind=kind,
        prompt=readable(plain),
        reference=readable(row["reference"]),
        base=readable(row["base"]),
        tuned=readable(row["tuned"]),
        metadata=readable(metadata, 300),
        base_score=base,
        tuned_score=tuned,
        rivals=tuple((readable(name, 80), readable(said, 600)) for name, said in (row.get("rivals") or {}).items()),
    )
