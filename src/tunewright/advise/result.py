"""What a sweep found: the document on disk, the table on the screen, and reading it back for later advice."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tunewright.advise.advice import Advice
from tunewright.advise.length import length_of
from tunewright.advise.score import interval
from tunewright.advise.sweep import ETA, Reached, Sweep, Trial, sweep_workspace
from tunewright.core import files
from tunewright.core.runs import Artifact, Workspace
from tunewright.core.scoring import compare
from tunewright.evaluate.compare import verdict
from tunewright.train.config import TrainConfig

RESULT, PICTURE = "sweep.json", "sweep.html"
HEADER = ("trial", "from", "method", "rank", "learning rate", "epochs", "rows/step", "budget", "score", "loss", "s", "")


def document(sweep: Sweep, advice: Advice, data: Artifact) -> dict[str, Any]:
    """Plain data, the trials from the best to those that failed. `best_train` is the advised training section;
    `against_rules` compares the best with the rules' own proposal on the same validation rows."""
    best = sweep.best
    ranked = sorted(sweep.trials, key=lambda trial: trial.order, reverse=True)
    return {
        "data_sha256": data.manifest_sha256,
        "model": advice.project.model.path,
        "metric": sweep.metric,
        "seed": sweep.seed,
        "eta": ETA,
        "budgets": list(sweep.rungs),
        "complete": sweep.complete,
        "seconds": round(sweep.seconds, 1),
        "trials": [_trial(trial, sweep, advice) for trial in ranked],
        "best": best.candidate.number,
        "best_train": best.candidate.train.model_dump(mode="json"),
        "best_in_words": in_words(best.rungs[-1], sweep),
        "against_rules": against_rules(sweep),
    }


def in_words(reached: Reached, sweep: Sweep) -> str:
    """The last measurement of a trial: metric with interval and rows, or the loss."""
    if reached.measured is None:
        return f"validation loss {reached.loss:.4f} at {reached.share:.0%} of the steps"
    found = interval(reached.measured, sweep.seed)
    return (
        f"{sweep.metric} {found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}] on {found['n']} "
        f"validation rows at {reached.share:.0%} of the steps"
    )


def _trial(trial: Trial, sweep: Sweep, advice: Advice) -> dict[str, Any]:
    candidate = trial.candidate
    method = candidate.train.method
    return {
        "number": candidate.number,
        "origin": candidate.origin,
        "method": method.name,
        "rank": getattr(method, "rank", None),
        "learning_rate": candidate.train.learning_rate,
        "epochs": round(length_of(candidate.train, advice.facts.data).epochs, 2),
        "rows_per_step": candidate.train.rows_per_step,
        "tokens_per_step": candidate.train.tokens_per_step,
        "budgets": [_reached(reached, sweep) for reached in trial.rungs],
        "failed": trial.failed,
        "is_best": trial is sweep.best,
    }


def _reached(reached: Reached, sweep: Sweep) -> dict[str, Any]:
    return {
        "share": reached.share,
        "path": reached.path,
        "steps": reached.steps,
        "seconds": reached.seconds,
        "validation_loss": reached.loss if math.isfinite(reached.loss) else None,
        "score": interval(reached.measured, sweep.seed) if reached.measured else None,
    }


def against_rules(sweep: Sweep) -> dict[str, Any] | None:
    """The best minus the rules' proposal where both reached one budget; None where they did not, or are one."""
    rules = next(trial for trial in sweep.trials if trial.candidate.origin == "rules")
    best = sweep.best
    if best is rules or not rules.rungs or rules.rungs[-1].share != best.rungs[-1].share:
        return None
    ours, theirs = best.rungs[-1].measured, rules.rungs[-1].measured
    if ours is None or theirs is None:
        return None
    difference = compare(ours, theirs, seed=sweep.seed)
    words = verdict(difference, higher_is_better=ours.higher_is_better)
    return {**difference.model_dump(), "verdict": words}


def write(found: Mapping[str, Any], page: str, workspace: Workspace) -> Path:
    """Stores the document and its page beside the trials; returns the page's path."""
    folder = _folder(workspace)
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / RESULT, dict(found))
    files.write_text(folder / PICTURE, page)
    return folder / PICTURE


def read(workspace: Workspace, data: Artifact, model: str) -> dict[str, Any] | None:
    """The last finished sweep over exactly these rows and this model; None where there is none that can be read."""
    place = _folder(workspace) / RESULT
    if not place.exists():
        return None
    try:
        found: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
        TrainConfig.model_validate(found["best_train"])
        is_same = found["data_sha256"] == data.manifest_sha256 and found["model"] == model
    except (ValueError, KeyError, ValidationError):
        return None
    return found if is_same and found["complete"] else None


def _folder(workspace: Workspace) -> Path:
    inner = sweep_workspace(workspace)
    return inner.root / "runs" / inner.project


def table(found: Mapping[str, Any]) -> str:
    """One line a trial, best first."""
    rows = [HEADER, *(row_cells(trial, found) for trial in found["trials"])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths).rstrip())
    end = "" if found["complete"] else "; the time ended it, the same command goes on"
    lines.append(f"\nbest: trial {found['best']}, {found['best_in_words']}{end}")
    difference = found["against_rules"]
    if difference:
        lines.append(
            f"against the rules' proposal: {difference['difference']:+.3f} "
            f"[{difference['low']:+.3f}, {difference['high']:+.3f}], {difference['verdict']}, {difference['test']}"
        )
    return "\n".join(lines)


def row_cells(trial: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[str, ...]:
    """One trial under HEADER."""
    last = trial["budgets"][-1] if trial["budgets"] else None
    batch = trial["rows_per_step"] or (f"{trial['tokens_per_step']} tokens" if trial["tokens_per_step"] else "")
    shown = last["score"] if last else None
    loss = last["validation_loss"] if last else None
    return (
        str(trial["number"]),
        trial["origin"],
        trial["method"],
        str(trial["rank"] or ""),
        f"{trial['learning_rate']:.2g}",
        f"{trial['epochs']:g}",
        str(batch),
        f"{last['share']:.0%}" if last else "",
        f"{shown['value']:.3f} [{shown['low']:.3f}, {shown['high']:.3f}]" if shown else "",
        f"{loss:.4f}" if loss is not None else "",
        f"{sum(reached['seconds'] for reached in trial['budgets']):.0f}",
        state(trial, found),
    )


def state(trial: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """What became of a trial, in a word or two."""
    if trial["failed"]:
        return f"failed: {trial['failed']}"
    if trial["is_best"]:
        return "best"
    is_whole = bool(trial["budgets"]) and trial["budgets"][-1]["share"] == found["budgets"][-1]
    return "" if is_whole else "stopped early" if found["complete"] else "not finished"
