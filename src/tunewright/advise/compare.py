"""`runs compare`: two runs side by side. Settings that differ, facts, scores, and a paired test where both answered
the same test rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.core import manifest
from tunewright.core.chat import Conversation
from tunewright.core.errors import ArtifactError, ConfigError
from tunewright.core.files import human_bytes
from tunewright.core.runs import Artifact, Workspace
from tunewright.core.scoring import Measured
from tunewright.core.scoring import compare as test_of
from tunewright.evaluate.compare import verdict
from tunewright.evaluate.config import EvaluateConfig
from tunewright.evaluate.labels import training_labels
from tunewright.evaluate.quantized import samples_of
from tunewright.evaluate.scorer import intent_options, row_metrics

FACTS = (
    "method", "validation_loss", "steps", "best_step", "stopped_early", "seconds", "tokens", "tokens_per_second",
    "peak_memory_bytes", "trained_parameters", "total_parameters",
)  # fmt: skip
SCORES, SAMPLES = "scores.json", "samples.jsonl"


@dataclass(frozen=True)
class Run:
    """A training, and the newest evaluation of it where there is one."""

    train: Artifact
    evaluate: Artifact | None


def find(workspace: Workspace, name: str) -> Run:
    """By number of the training (3), by `train/0003`, `evaluate/0001` or an artifact's folder.

    Raises ArtifactError where it is no finished train or evaluate artifact.
    """
    artifact = Artifact.open(_place(workspace, name))
    stage = artifact.manifest.stage
    if stage == "train":
        return Run(artifact, _newest_evaluation(workspace, artifact))
    if stage == "evaluate":
        return Run(_trained(workspace, artifact), artifact)
    raise ArtifactError(
        f"this is a '{stage}' artifact", where=str(artifact.path), fix="name a train or an evaluate artifact"
    )


def _place(workspace: Workspace, name: str) -> Path:
    if name.isdigit():
        return workspace.stage_directory("train") / f"{int(name):04d}"
    inside = workspace.root / "runs" / workspace.project / name
    found = next((place for place in (Path(name), workspace.root / name, inside) if place.is_dir()), None)
    if found is None:
        raise ArtifactError("there is no such run", where=name, fix="`tunewright runs list` prints them")
    return found


def _newest_evaluation(workspace: Workspace, train: Artifact) -> Artifact | None:
    mark = train.manifest_sha256
    found = [a for a in workspace.finished("evaluate") if mark in {ref.sha256 for ref in a.manifest.inputs}]
    return found[-1] if found else None


def _trained(workspace: Workspace, evaluate: Artifact) -> Artifact:
    for reference in evaluate.manifest.inputs:
        place = workspace.resolve(reference)
        if (place / manifest.NAME).exists() and manifest.read(place).stage == "train":
            return Artifact.open(place)
    raise ArtifactError("the training of this evaluation is gone", where=str(evaluate.path), fix="evaluate another one")


def compare(first: Run, second: Run, *, workspace: Workspace) -> dict[str, Any]:
    """Plain data; in `paired` a difference is second minus first."""
    return {
        "runs": [_name(run, workspace) for run in (first, second)],
        "settings": _different_settings(first, second),
        "rows": "the same" if _rows_of(first) == _rows_of(second) else "different",
        "facts": {
            key: [run.train.manifest.facts.get(key) for run in (first, second)]
            for key in FACTS
            if any(key in run.train.manifest.facts for run in (first, second))
        },
        "scores": _scores(first, second),
        **_paired(first, second, workspace),
    }


def _name(run: Run, workspace: Workspace) -> dict[str, Any]:
    evaluate = workspace.relative(run.evaluate.path) if run.evaluate else None
    return {"train": workspace.relative(run.train.path), "evaluate": evaluate}


def _rows_of(run: Run) -> list[str]:
    return sorted(reference.sha256 for reference in run.train.manifest.inputs)


def _different_settings(first: Run, second: Run) -> dict[str, list[Any]]:
    configs = [_flat(run.train.manifest.config) for run in (first, second)]
    for config, run in zip(configs, (first, second), strict=True):
        if run.evaluate:
            config |= _flat({"evaluate": run.evaluate.manifest.config["evaluate"]})
    both = all(run.evaluate for run in (first, second))
    keys = [key for key in {**configs[0], **configs[1]} if both or not key.startswith("evaluate.")]
    found = {key: [config.get(key) for config in configs] for key in keys}
    return {key: pair for key, pair in found.items() if pair[0] != pair[1]}


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping) and value:
        return {k: v for name, item in value.items() for k, v in _flat(item, f"{prefix}{name}.").items()}
    return {prefix.rstrip("."): value}


def _scores(first: Run, second: Run) -> dict[str, list[Any]]:
    """The tuned models' scores by metric; None where a run has none."""
    found = [run.evaluate.json(SCORES)["tuned"] if run.evaluate else {} for run in (first, second)]
    keys = ("value", "low", "high", "n", "unit")
    return {
        metric: [{k: side[metric][k] for k in keys} if metric in side else None for side in found]
        for metric in {**found[0], **found[1]}
    }


def _paired(first: Run, second: Run, workspace: Workspace) -> dict[str, Any]:
    """`paired` by metric where both answered the same rows under the same metrics, else `not_paired` says why not."""
    if first.evaluate is None or second.evaluate is None:
        missing = next(run for run in (first, second) if run.evaluate is None)
        return {"paired": {}, "not_paired": f"{workspace.relative(missing.train.path)} was not evaluated"}
    ours, theirs = (_config(artifact) for artifact in (first.evaluate, second.evaluate))
    if ours.metrics != theirs.metrics:
        return {"paired": {}, "not_paired": "they were evaluated by different metrics"}
    answered = [{row["id"]: row for row in artifact.jsonl(SAMPLES)} for artifact in (first.evaluate, second.evaluate)]
    same = [id for id, row in answered[0].items() if _asked(row) == _asked(answered[1].get(id, {}))]
    if not same:
        return {"paired": {}, "not_paired": "they answered no test row in common"}
    seed = int(first.evaluate.manifest.config.get("seed", 0))
    measured = [_measure(ours, [rows[id] for id in same], first, workspace) for rows in answered]
    paired = {}
    for metric, mine in measured[0].items():
        difference = test_of(measured[1][metric], mine, seed=seed)
        words = verdict(difference, higher_is_better=mine.higher_is_better)
        paired[metric] = {**difference.model_dump(), "verdict": words}
    return {"paired": paired, "rows_in_common": len(same), "not_paired": ""}


def _config(evaluate: Artifact) -> EvaluateConfig:
    try:
        return EvaluateConfig.model_validate(evaluate.manifest.config["evaluate"])
    except ValueError:
        raise ConfigError(
            "this evaluation was made with settings that this version does not know",
            where=str(evaluate.path),
            fix="evaluate the run again",
        ) from None


def _asked(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row.get("prompt"), row.get("reference"), json.dumps(row.get("metadata"), sort_keys=True)


def _measure(
    config: EvaluateConfig, rows: Sequence[Mapping[str, Any]], run: Run, workspace: Workspace
) -> dict[str, Measured]:
    """Metrics of the tuned model's stored answers; those that need more than the answer (choices, times) are left."""
    samples = list(samples_of(rows, "tuned").values())
    found = [m for metric in row_metrics(config, _labels(config, run, workspace)) for m in metric.measure(samples)]
    return {measured.metric: measured for measured in found}


def _labels(config: EvaluateConfig, run: Run, workspace: Workspace) -> list[str]:
    options = intent_options(config)
    if options is None:
        return []
    for reference in run.train.manifest.inputs:
        place = workspace.resolve(reference)
        if (place / manifest.NAME).exists():
            rows = Artifact.open(place).jsonl("train.jsonl")
            return training_labels(options, [Conversation.from_row(row) for row in rows])
    assert run.evaluate is not None
    return [str(label) for label in run.evaluate.json(SCORES).get("labels", [])]


def text(found: Mapping[str, Any]) -> str:
    """For the screen."""
    first, second = (run["train"] for run in found["runs"])
    parts = [f"A  {first}\nB  {second}\ntraining rows: {found['rows']}"]
    settings = [(key, _short(a), _short(b)) for key, (a, b) in found["settings"].items()]
    parts.append(_columns(("setting", "A", "B"), settings) if settings else "settings: the same")
    facts = [(key, _fact(key, a), _fact(key, b)) for key, (a, b) in found["facts"].items()]
    parts.append(_columns(("training", "A", "B"), facts))
    if found["scores"]:
        rows = [
            (metric, _score(a), _score(b), _difference(found["paired"].get(metric)))
            for metric, (a, b) in found["scores"].items()
        ]
        parts.append(_columns(("test score", "A", "B", "B - A"), rows))
    if found["not_paired"]:
        parts.append(f"no paired test: {found['not_paired']}")
    return "\n\n".join(parts)


def _columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    every = [head, *rows]
    widths = [max(len(row[column]) for row in every) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in every]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def _short(value: Any) -> str:
    return "-" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _fact(key: str, value: Any) -> str:
    if value is None:
        return "-"
    if key.endswith("_bytes"):
        return human_bytes(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if key == "validation_loss" else f"{value:,.1f}" if isinstance(value, float) else str(value)


def _score(score: Mapping[str, Any] | None) -> str:
    return "-" if score is None else f"{score['value']:.4g} [{score['low']:.4g}, {score['high']:.4g}]"


def _difference(paired: Mapping[str, Any] | None) -> str:
    if paired is None:
        return ""
    return f"{paired['difference']:+.3g} [{paired['low']:+.3g}, {paired['high']:+.3g}], {paired['verdict']}"
