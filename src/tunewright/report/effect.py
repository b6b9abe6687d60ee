"""The training's effect as it is written: as loud when nothing was shown as when something was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_TITLES = {
    "effect": ("better", "▲ The saved weights have an effect"),
    "no effect shown": ("even", "＝ No effect shown"),
    "harm shown": ("worse", "▼ Harm shown: the tuned model is worse than the base"),
    "too few rows to tell": ("even", "? Too few held-out rows to tell"),
}


@dataclass(frozen=True)
class EffectView:
    """tone: better, even or worse; rows: (model, loss, tuned minus it, standard errors of that)."""

    tone: str
    title: str
    sentence: str
    rows: tuple[tuple[str, str, str, str], ...]
    note: str


def effect_view(train_facts: Mapping[str, Any] | None) -> EffectView | None:
    """From the facts of the train artifact; None where the effect was not measured."""
    found = (train_facts or {}).get("effect")
    if not found:
        return None
    tone, title = _TITLES[found["verdict"]]
    rows = (
        _row("base", found["base"], found["against_base"]),
        _row("random change of the same size", found["random"], found["against_random"]),
        ("tuned, as saved", f"{found['tuned']:.4f}", "", ""),
    )
    return EffectView(tone, title, found["text"], rows, _note(found))


def _row(name: str, loss: float, against: Mapping[str, float]) -> tuple[str, str, str, str]:
    return name, f"{loss:.4f}", f"{against['difference']:+.4f}", f"{against['z']:+.1f}"


def _note(found: Mapping[str, Any]) -> str:
    needed = f"A difference counts as shown from {found['min_standard_errors']:g} standard errors on."
    if not found["left_out"]:
        return needed
    return f"{needed} {found['left_out']:,} rows were left out: their prompt is too long to be served."
