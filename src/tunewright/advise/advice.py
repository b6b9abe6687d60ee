"""The whole advice: what was measured outranks the rules, the rules fill in the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunewright.advise import facts as known
from tunewright.advise.facts import Facts
from tunewright.advise.history import PastRun, best_of, past_runs
from tunewright.advise.proposal import Line, Proposal, command, flow, overrides, shown_value
from tunewright.advise.rules import propose
from tunewright.advise.sources import SOURCES
from tunewright.core.runs import Artifact, Workspace
from tunewright.project import ProjectConfig
from tunewright.train.config import TrainConfig

MEASURED_KEYS = ("method", "learning_rate", "epochs", "steps", "rows_per_step", "tokens_per_step", "weight_decay")
"""What a better run decides; memory, warm-up and stopping stay with the rules."""


@dataclass(frozen=True)
class Advice:
    """facts: in words; rules: what the rules alone say, where a sweep starts; proposal: what is advised."""

    project: ProjectConfig
    facts: Facts
    runs: tuple[PastRun, ...]
    rules: Proposal
    proposal: Proposal

    def dump(self, file: str) -> dict[str, Any]:
        """For JSON."""
        return {
            "facts": known.shown(self.facts),
            "runs": [{"path": run.path, "validation_loss": run.loss, "steps": run.steps} for run in self.runs],
            "advice": [line.dump() for line in self.proposal.lines],
            "notes": list(self.proposal.notes),
            "overrides": overrides(self.project, self.proposal.train),
            "command": command(self.project, self.proposal.train, file),
        }


def advise(project: ProjectConfig, workspace: Workspace, data: Artifact, *, swept: Mapping[str, Any] | None) -> Advice:
    """swept: the result of a finished sweep over the same rows (sweep.py), whose best setting is the start.

    Raises ArtifactError where the data artifact or the model cannot be read.
    """
    facts = known.collect(project, workspace, data)
    runs = past_runs(project, workspace, data)
    rules = propose(facts, project.train, runs)
    proposal = rules
    if swept:
        why = f"best of {len(swept['trials'])} settings swept: {swept['best_in_words']}"
        proposal = measured(project, rules, TrainConfig.model_validate(swept["best_train"]), why, "halving")
    elif best := best_of(runs):
        why = f"{best.path} has the lowest validation loss of {len(runs)} runs, {best.loss:.4f}"
        proposal = measured(project, rules, best.train, why)
    return Advice(project, facts, runs, rules, proposal)


def measured(project: ProjectConfig, rules: Proposal, best: TrainConfig, why: str, *sources: str) -> Proposal:
    """The rules' proposal with the settings of a measured better run in their place."""
    train = rules.train.model_copy(update={key: getattr(best, key) for key in MEASURED_KEYS})
    lines: list[Line] = []
    for key in MEASURED_KEYS:
        now, proposed = (shown_value(getattr(config, key)) for config in (project.train, best))
        if now is not None or proposed is not None:
            because = "of the same run" if lines else why
            lines.append(Line(f"train.{key}", now, proposed, because, ("measured", *sources)))
    replaced = tuple(f"train.{key}" for key in MEASURED_KEYS)
    kept = [line for line in rules.lines if not line.key.startswith(replaced)]
    return Proposal((*lines, *kept), rules.notes, train)


def text(advice: Advice, file: str) -> str:
    """For the screen: facts, one block a key, notes, the sources' names and the command line."""
    parts = ["\n".join(f"{name:<16} {value}" for name, value in known.shown(advice.facts).items())]
    if advice.runs:
        listed = [f"{'finished runs':<16} {len(advice.runs)} on these rows"]
        listed += [
            f"{'':<16} {run.path}: validation loss {run.loss:.4f}, {run.steps} steps" for run in advice.runs[-5:]
        ]
        parts.append("\n".join(listed))
    parts.append(_table(advice.proposal.lines))
    parts += [f"note: {note}" for note in advice.proposal.notes]
    changed = overrides(advice.project, advice.proposal.train)
    head = "to train with it:" if changed else "nothing to change; to train:"
    parts.append(f"{head}\n  {command(advice.project, advice.proposal.train, file)}")
    return "\n\n".join(parts)


def _table(lines: tuple[Line, ...]) -> str:
    rows = [("key", "now", "proposed", "why (source)")]
    for line in lines:
        names = ", ".join(SOURCES[name].name for name in line.sources)
        proposed = _cell(line.proposed) if line.changes else "keep"
        rows.append((line.key, _cell(line.now), proposed, f"{line.why} ({names})"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    drawn = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)), row[3]]) for row in rows
    ]
    return "\n".join([drawn[0], "  ".join("-" * width for width in [*widths, len(rows[0][3])]), *drawn[1:]])


def _cell(value: Any) -> str:
    if isinstance(value, dict) and "name" in value:
        return str(value["name"]) + (f", rank {value['rank']}" if "rank" in value else "")
    if isinstance(value, dict):
        return ", ".join(flow(item) for item in value.values())
    return "default" if value is None else flow(value)
