"""What a served model reached in evaluation, read from the artifacts that stand beside it."""

from __future__ import annotations

from tunewright.core.promoted import TUNED
from tunewright.core.runs import Artifact, Workspace
from tunewright.serve.choose import Choice

SCORES = "scores.json"


def scores_of(workspace: Workspace, choice: Choice, primary: str) -> dict[str, float]:
    """The primary metric of the chosen model; empty where it was never measured."""
    if choice.variant != TUNED:
        rows = choice.artifact.json("table.json")
        found = next((row.get("task_score") for row in rows if row["scheme"] == choice.variant), None)
        return {} if found is None else {primary: round(float(found), 4)}
    place = choice.artifact.path.resolve()
    for evaluation in reversed(workspace.finished("evaluate")):
        if place in {workspace.resolve(reference) for reference in evaluation.manifest.inputs}:
            return _tuned(evaluation, primary)
    return {}


def _tuned(evaluation: Artifact, primary: str) -> dict[str, float]:
    score = evaluation.json(SCORES)["tuned"].get(primary)
    return {} if score is None else {primary: round(float(score["value"]), 4)}
