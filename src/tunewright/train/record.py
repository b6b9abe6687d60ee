"""What a finished training says of itself: the curve, the best point and the facts of the manifest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tunewright.train.config import VALIDATION_LOSS, TrainConfig
from tunewright.train.watch import Overfitting

Curve = dict[str, list[dict[str, Any]]]
OBJECTIVE = "eval_objective"
"""Key in the trainer's history: what decides which checkpoint is the best, turned so that lower is better, and then,
where that is the same, the validation loss."""


def curve(events: Iterable[dict[str, Any]]) -> Curve:
    """Training and validation losses and metrics of generated answers, by step. A step that was computed again after a
    kill counts once, as last seen.

    train, validation: points with step, epoch and loss; metrics: {metric, higher_is_better, n, points with value}.
    """
    rows = list(events)
    found: Curve = {
        name: list({row["step"]: _point(row) for row in rows if row["event"] == event}.values())
        for name, event in (("train", "step"), ("validation", "validation"))
    }
    evaluations = {row["step"]: row for row in rows if row["event"] == "validation"}
    found["metrics"] = _metrics(list(evaluations.values()))
    return found


def _point(row: dict[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in ("step", "epoch", "loss", "learning_rate") if row.get(key) is not None}


def _metrics(evaluations: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for row in evaluations:
        for metric, score in row.get("scores", {}).items():
            entry = {"metric": metric, "higher_is_better": score["higher_is_better"], "n": score["n"], "points": []}
            point = {"step": row["step"], "epoch": row["epoch"], "value": score["value"]}
            found.setdefault(metric, entry)["points"].append(point)
    return list(found.values())


def objectives(history: Iterable[Mapping[str, Any]]) -> list[list[float]]:
    """The objectives of all evaluations in the trainer's history."""
    return [list(row[OBJECTIVE]) for row in history if OBJECTIVE in row]


def best(losses: Curve, objective: str) -> dict[str, Any]:
    """The kept checkpoint's facts: the evaluation with the best `objective`, of several such the first one with the
    lowest validation loss, and that loss."""
    loss = {point["step"]: float(point["loss"]) for point in losses["validation"]}
    value, sign = loss, 1
    if objective != VALIDATION_LOSS:
        entry = next(entry for entry in losses["metrics"] if entry["metric"] == objective)
        value = {point["step"]: float(point["value"]) for point in entry["points"]}
        sign = -1 if entry["higher_is_better"] else 1
    step = min(value, key=lambda step: (sign * value[step], loss[step], step))
    return {"best_step": step, "best_metric": objective, "best_value": value[step], "validation_loss": loss[step]}


def points(history: Iterable[Mapping[str, float]]) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    """(training, validation) losses by step from the trainer's history."""
    rows = list(history)
    train, validation = ([(int(row["step"]), row[key]) for row in rows if key in row] for key in ("loss", "eval_loss"))
    return train, validation


def losses_of(found: Curve) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    """(training, validation) losses by step from a curve."""
    train, validation = (
        [(int(point["step"]), float(point["loss"])) for point in found[part]] for part in ("train", "validation")
    )
    return train, validation


def overfitting_advice(found: Overfitting, config: TrainConfig, *, is_augmented: bool, per_epoch: float) -> str:
    """One sentence: what was seen, and the levers that this training does not use yet."""
    method = config.method
    levers = [] if is_augmented else ["augment the training rows (data.augment)"]
    if not config.weight_decay:
        levers.append("train.weight_decay=0.1")
    levers.append(
        f"train.steps={found.best_step}" if config.steps else f"train.epochs={round(found.best_step / per_epoch, 2):g}"
    )
    if getattr(method, "dropout", None) == 0:
        levers.append("train.method.dropout=0.05")
    return (
        f"overfitting: the validation loss rose from {found.best:.3f} at step {found.best_step} to {found.last:.3f} at "
        f"step {found.last_step} while the training loss fell; try {', '.join(levers[:-1])}"
        f"{' or ' if levers[:-1] else ''}{levers[-1]}"
    )


def last_speed(events: Sequence[Mapping[str, Any]]) -> float | None:
    """Tokens a second as last noted: where a process only had to save what another one has trained."""
    return next((row["tokens_per_second"] for row in reversed(events) if row["event"] == "step"), None)


def weights_of(model: Any) -> dict[str, int]:
    """Trained and all weights of a model."""
    return {
        "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "total_parameters": sum(p.numel() for p in model.parameters()),
    }
