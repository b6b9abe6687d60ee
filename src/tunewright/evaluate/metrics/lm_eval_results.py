"""What lm-evaluation-harness wrote: the value of every task and the rows that it is the mean of."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.core.errors import ArtifactError, ConfigError

_CLOSE = 1e-6


@dataclass(frozen=True)
class TaskResult:
    """rows: the metric's value on every row, in the order of the task's rows."""

    task: str
    rows: list[float]
    higher_is_better: bool
    signature: str


@dataclass(frozen=True)
class _Wanted:
    """A metric of a task; filter is empty where the option names none."""

    task: str
    metric: str
    filter: str


def read_results(folder: Path, tasks: Mapping[str, str], *, where: str) -> list[TaskResult]:
    """The result of every task of `tasks` (name: metric). folder: the harness's output folder, with its samples.

    Raises ArtifactError for a folder without results, ConfigError for a metric that a task does not have, or that is
    no mean over rows.
    """
    path = max(folder.rglob("results_*.json"), default=None)
    if path is None:
        raise ArtifactError("lm_eval wrote no results", where=where, fix="run it by hand with the same task")
    document = _json(path.read_text(encoding="utf-8"), path)
    found = []
    for task, name in tasks.items():
        metric, _, kind = name.partition(",")
        found.append(_task(document, _Wanted(task, metric.strip(), kind.strip()), path, where))
    return found


def _task(document: Mapping[str, Any], wanted: _Wanted, path: Path, where: str) -> TaskResult:
    task = wanted.task
    results = document.get("results", {}).get(task) or document.get("groups", {}).get(task) or {}
    known = [key for key in results if "," in key and not key.partition(",")[0].endswith("_stderr")]
    fitting = [key for key in known if key.split(",")[0] == wanted.metric and wanted.filter in ("", key.split(",")[1])]
    if len(fitting) != 1:
        several = "several" if fitting else "no"
        shown = f"{wanted.metric},{wanted.filter}" if wanted.filter else wanted.metric
        raise ConfigError(
            f"the task '{task}' has {several} results for '{shown}'",
            where=f"{where}.tasks",
            fix=f"name one of: {', '.join(known) or 'another task'}",
        )
    kind, value = fitting[0].split(",")[1], float(results[fitting[0]])
    rows = [row for part in _parts(document, task) for row in _rows(path, part, wanted.metric, kind)]
    if not rows or not math.isclose(sum(rows) / len(rows), value, rel_tol=_CLOSE, abs_tol=_CLOSE):
        raise ConfigError(
            f"the metric '{fitting[0]}' of '{task}' is no mean over its rows, so nothing can be compared by it",
            where=f"{where}.tasks",
            fix="name one that scores each row by itself, such as acc or exact_match",
        )
    better = document.get("higher_is_better", {}).get(task, {}).get(wanted.metric, True)
    return TaskResult(task, rows, bool(better), _signature(document, task, fitting[0]))


def _signature(document: Mapping[str, Any], task: str, metric: str) -> str:
    shots = document.get("n-shot", {}).get(task, document.get("config", {}).get("num_fewshot"))
    limit = document.get("config", {}).get("limit")
    parts = {
        "lm_eval": document.get("lm_eval_version", "unknown"),
        "task": f"{task} {document.get('versions', {}).get(task, '')}".strip(),
        "metric": metric,
        "shots": "as the task says" if shots is None else shots,
        "chat template": "yes" if document.get("chat_template_sha") else "no",
        "limit": "none" if limit is None else f"{limit:g}",
    }
    return "|".join(f"{name}:{value}" for name, value in parts.items())


def _parts(document: Mapping[str, Any], task: str) -> Iterator[str]:
    """The tasks that a group consists of, the task itself where it is none."""
    below = document.get("group_subtasks", {}).get(task) or []
    if not below:
        yield task
    for part in below:
        yield from _parts(document, part)


def _rows(path: Path, task: str, metric: str, kind: str) -> list[float]:
    """The values of one task's samples file, in the order of its rows; nothing where it lacks the metric."""
    stamp = path.stem.removeprefix("results_")
    place = path.with_name(f"samples_{task}_{stamp}.jsonl")
    if not place.is_file():
        return []
    samples = [_json(line, place) for line in place.read_text(encoding="utf-8").split("\n") if line.strip()]
    fitting = [one for one in samples if one.get("filter", "none") == kind and _is_number(one.get(metric))]
    return [float(one[metric]) for one in sorted(fitting, key=lambda one: one["doc_id"])]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _json(text: str, path: Path) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ArtifactError("this is no whole JSON object", where=str(path), fix="run lm_eval again")
    return found
