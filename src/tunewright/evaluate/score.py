"""Scores of answers that were made elsewhere: rows of a JSON Lines file to numbers with intervals. Loads no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from tunewright.core.config import validate
from tunewright.core.errors import ArtifactError, ConfigError
from tunewright.core.registry import PluginOptions
from tunewright.core.scoring import Measured, Sample, Score, to_score
from tunewright.evaluate.compare import wrong_answer_floors
from tunewright.evaluate.config import METRICS, EvaluateConfig
from tunewright.evaluate.metrics.json_answers import loads, object_in
from tunewright.evaluate.metrics.resolution_log import as_score_row
from tunewright.evaluate.scorer import RowMetric, row_metrics

MOST_FAULTS = 5
"""Faults of a file that are listed; the rest are counted."""
FIX = 'each line is {"id": ..., "prompt": ..., "prediction": ..., "reference": ..., "metadata": {...}}'


@runtime_checkable
class Explains(Protocol):
    """A metric that says more about a row than a number."""

    def explain(self, samples: Sequence[Sample]) -> list[dict[str, Any] | None]:
        """Something about each sample, in order; None where the metric does not apply."""
        ...


@dataclass(frozen=True)
class Scored:
    """scores: by flat metric key; rows: one a sample, by metric name; seed: of the bootstrap."""

    scores: dict[str, Score]
    rows: list[dict[str, Any]]
    seed: int

    def dump(self) -> dict[str, Any]:
        """What `--json` prints."""
        fields = ("value", "low", "high", "n", "signature", "version", "floor", "unit", "higher_is_better")
        dumped = {key: score.model_dump(include=set(fields)) for key, score in self.scores.items()}
        return {
            "scores": {key: {name: one[name] for name in fields} for key, one in dumped.items()},
            "rows": self.rows,
            "seed": self.seed,
        }

    def text(self) -> str:
        """A table, one line a metric."""
        lines = [("metric", "value", "95 % interval", "n", "wrong answers score")]
        for key, score in self.scores.items():
            places = 1 if score.unit == "points" else 3
            interval = f"[{score.low:.{places}f}, {score.high:.{places}f}]"
            floor = "" if score.floor is None else f"{score.floor:.{places}f}"
            lines.append((key, f"{score.value:.{places}f}", interval, str(score.n), floor))
        widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
        table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        notes = [f"{key}: {score.signature}" for key, score in self.scores.items()]
        said = f"intervals: Wilson for rates, else bootstrap over rows, seed {self.seed}"
        return "\n".join([*(line.rstrip() for line in table), "", *notes, said])


def read_rows(path: Path) -> list[Sample]:
    """The rows of a JSON Lines file. Raises ArtifactError that names the lines of the first faults."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"the file cannot be read: {error.strerror}", where=str(path), fix=FIX) from None
    samples: list[Sample] = []
    faults: list[str] = []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if line.strip():
            try:
                samples.append(_sample(line, number))
            except ValueError as error:
                faults.append(f"line {number}: {error}")
    if faults:
        more = f"\nand {len(faults) - MOST_FAULTS} more" if len(faults) > MOST_FAULTS else ""
        raise ArtifactError("\n".join(faults[:MOST_FAULTS]) + more, where=str(path), fix=FIX)
    if not samples:
        raise ArtifactError("the file has no rows", where=str(path), fix=FIX)
    return samples


def _sample(line: bytes, number: int) -> Sample:
    """Raises ValueError with one sentence about what is wrong with the line."""
    row = as_score_row(_object(line))
    for key in ("prediction", "reference"):
        if key not in row:
            raise ValueError(f"the key '{key}' is missing")
    metadata = row.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise ValueError(f"'metadata' must be an object, not {_kind(metadata)}")
    return Sample(
        id=_text(row, "id", str(number)),
        prompt=_text(row, "prompt", ""),
        prediction=_text(row, "prediction", None),
        reference=_text(row, "reference", None),
        metadata=metadata or {},
    )


def _object(line: bytes) -> dict[str, Any]:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"this is not UTF-8 (byte {error.start} of the line)") from None
    try:
        row = loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"this is not JSON: {error.msg} at character {error.pos + 1}") from None
    if not isinstance(row, dict):
        raise ValueError(f"a row is an object, not {_kind(row)}")
    return row


def _text(row: Mapping[str, Any], key: str, default: str | None) -> str:
    """A text; a number is taken as it is written. `default` where the key is missing or null; None: it may not be."""
    value = row.get(key)
    if value is None and default is not None:
        return default
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise ValueError(f"'{key}' must be a text, not {_kind(value)}")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueError(f"'{key}' holds half of a surrogate pair, which is no character")
    return value


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", bool: "true or false", type(None): "null", str: "a text"}
    return kinds.get(type(value), "a number")


def configured(named: Sequence[str], options: Mapping[str, Mapping[str, Any]]) -> EvaluateConfig:
    """The metrics of these names with their options. Raises ConfigError for an unknown name, option or none at all."""
    known = ", ".join(METRICS.entries)
    if not named:
        raise ConfigError("no metric was named", fix=f"--metrics with any of: {known}")
    for name in named:
        METRICS.options(name)
    without = [name for name in named if not issubclass(METRICS.target(name), RowMetric)]
    if without:
        raise ConfigError(
            f"'{without[0]}' measures a model, not answers", fix="`tunewright evaluate` measures it; leave it out here"
        )
    metrics = [{"name": name, **options.get(name, {})} for name in dict.fromkeys(named)]
    return validate(EvaluateConfig, {"metrics": metrics}, {(): 0}, "command line")


def score(config: EvaluateConfig, samples: Sequence[Sample], *, seed: int) -> Scored:
    """Every metric over the samples it applies to. Raises ConfigError for one that applies to none."""
    scores: dict[str, Score] = {}
    rows: list[dict[str, Any]] = [{} for _ in samples]
    for options, metric in zip(config.metrics, row_metrics(config, ()), strict=True):
        seen = [_completed(sample, options) for sample in samples]
        found = metric.measure(seen)
        if not found:
            raise ConfigError(
                f"'{options.name}' applies to none of the {len(samples)} rows",
                where=f"metric {options.name}",
                fix="check its `where` and the keys it reads against the rows' metadata",
            )
        floors = wrong_answer_floors(metric, seen, seed=seed)
        scores |= {one.metric: to_score(one, seed=seed, floor=floors.get(one.metric)) for one in found}
        for row, said in zip(rows, explained(options.name, metric, seen, found), strict=True):
            if said is not None:
                row[options.name] = said
    return Scored(scores, rows, seed)


def _completed(sample: Sample, options: PluginOptions) -> Sample:
    """The sample with what intent and slots read from metadata; a row that has it only as its reference: from there."""
    place = {"intent": "label", "slots": "slots"}.get(options.name)
    key = str(getattr(options, place)).removeprefix("metadata.") if place else ""
    if not place or "." in key or key in sample.metadata:
        return sample
    value: Any = sample.reference.strip() or None
    if place == "slots":
        found = object_in(sample.reference)
        value = None if found is None else found.get("slots", found)
    return sample if value is None else sample.model_copy(update={"metadata": {**sample.metadata, key: value}})


def explained(
    name: str, metric: RowMetric, samples: Sequence[Sample], measured: Sequence[Measured]
) -> Iterator[dict[str, Any] | None]:
    """What the metric says of each sample: its own words, else the score of the row alone."""
    if isinstance(metric, Explains):
        yield from metric.explain(samples)
        return
    applying = [metric.applies(sample.metadata) for sample in samples]
    whole = [one for one in measured if len(one.statistics) == sum(applying)]
    values = {_short(one.metric, name): one.aggregate(one.statistics[:, None, :]).tolist() for one in whole}
    place = 0
    for is_scored in applying:
        yield {key: column[place] for key, column in values.items()} if is_scored else None
        place += is_scored


def _short(key: str, name: str) -> str:
    return "value" if key == name else key.removeprefix(f"{name}.")
