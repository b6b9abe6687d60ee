"""Which answers are shown: what got worse first, because nobody else will show it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.report.numbers import readable

MOST = 30
KEPT_FOR_GAINED = 10
KINDS = {
    "lost": "got worse: the base was right, the tuned model is wrong",
    "gained": "gained: the base was wrong, the tuned model is right",
    "wrong": "both wrong",
    "open": "free answers, without a right or wrong",
    "right": "both right",
}


@dataclass(frozen=True)
class Shown:
    """One row side by side, as it is written."""

    id: str
    kind: str
    prompt: str
    reference: str
    base: str
    tuned: str
    metadata: str


def kind_of(row: Mapping[str, Any]) -> str:
    """A key of KINDS."""
    base, tuned = row.get("base_right"), row.get("tuned_right")
    if base is None or tuned is None:
        return "open"
    return {(True, False): "lost", (False, True): "gained", (False, False): "wrong"}.get((base, tuned), "right")


def chosen(rows: Sequence[Mapping[str, Any]]) -> tuple[list[Shown], dict[str, tuple[int, int]]]:
    """At most MOST rows in the order of KINDS, and per kind (shown, all). Gained rows keep some room."""
    by_kind = {kind: [row for row in rows if kind_of(row) == kind] for kind in KINDS}
    room, shown = MOST, []
    counts: dict[str, tuple[int, int]] = {}
    for kind, found in by_kind.items():
        held = min(KEPT_FOR_GAINED, len(by_kind["gained"])) if kind == "lost" else 0
        taken = found[: max(0, room - held)]
        room -= len(taken)
        shown += [_shown(row, kind) for row in taken]
        if found:
            counts[kind] = (len(taken), len(found))
    return shown, counts


def _shown(row: Mapping[str, Any], kind: str) -> Shown:
    prompt = row["prompt"]
    plain = prompt if isinstance(prompt, str) else json.dumps(prompt, ensure_ascii=False, indent=1)
    metadata = " · ".join(f"{key}: {value}" for key, value in (row.get("metadata") or {}).items())
    return Shown(
        id=readable(row["id"], 200),
        kind=kind,
        prompt=readable(plain),
        reference=readable(row["reference"]),
        base=readable(row["base"]),
        tuned=readable(row["tuned"]),
        metadata=readable(metadata, 300),
    )
