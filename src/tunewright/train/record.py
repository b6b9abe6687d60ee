"""What a finished training says of itself: the curve and the facts of the manifest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Curve = dict[str, list[dict[str, Any]]]


def curve(events: Iterable[dict[str, Any]]) -> Curve:
    """Training and validation losses by step. A step that was computed again after a kill counts once, as last seen."""
    rows = list(events)
    return {
        name: list({row["step"]: _point(row) for row in rows if row["event"] == event}.values())
        for name, event in (("train", "step"), ("validation", "validation"))
    }


def _point(row: dict[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in ("step", "epoch", "loss", "learning_rate") if row.get(key) is not None}


def best_validation(losses: Curve) -> dict[str, Any]:
    """The point with the lowest validation loss: the checkpoint that was kept."""
    return min(losses["validation"], key=lambda point: float(point["loss"]))


def weights_of(model: Any) -> dict[str, Any]:
    """dtype, trained and all weights of a model."""
    return {
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "total_parameters": sum(p.numel() for p in model.parameters()),
    }
