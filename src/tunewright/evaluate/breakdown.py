"""Base against tuned by groups of rows: a label, the length of the question, a key of the metadata."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tunewright.core.scoring import Difference, Measured, Sample, Score, to_score, wilson
from tunewright.core.scoring import compare as compare_paired
from tunewright.evaluate.compare import owners, scored_rows, verdict
from tunewright.evaluate.config import EvaluateConfig
from tunewright.evaluate.labels import normalize
from tunewright.evaluate.multiplicity import holm
from tunewright.evaluate.rows import metadata_value
from tunewright.evaluate.scorer import RowMetric, intent_options

FEWEST = 10
"""A group of fewer rows gets its numbers but no verdict: an exact McNemar test cannot reach p < 0.05 with fewer than
six rows that changed, and a bootstrap over a handful of rows is too narrow."""
TOO_FEW = "too few rows to tell"
LENGTH = "prompt length"
PARTS = 3
NO_VALUE = "(no value)"
Groups = Sequence[tuple[str, list[int]]]
"""Names of groups with the indices of their rows."""


class Answered(Protocol):
    """What one system answered, and the statistics of its answers by metric key."""

    @property
    def samples(self) -> Sequence[Sample]:
        """Row by row; the same rows for every system."""
        ...

    @property
    def measured(self) -> Mapping[str, Measured]:
        """By metric key."""
        ...


def breakdown(
    config: EvaluateConfig,
    metrics: Sequence[RowMetric],
    base: Answered,
    tuned: Answered,
    *,
    seed: int,
    by: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """The content of scores.json's `breakdown`: the primary metric first, then every other yes/no metric, each by
    label (where the intent metric is chosen), by the metadata keys `by` and by prompt length, when that makes two
    groups or more.

    Each group has n, both systems with 95 % interval and the paired difference (of rates with `paired_rates`' interval,
    else by bootstrap); the worst change stands first. p_holm is corrected for the groups of the table that have FEWEST
    rows. metrics: what `row_metrics` made of `config`.
    """
    tables = []
    for key, metric in _chosen(config, metrics, tuned.measured).items():
        if key not in base.measured:
            continue
        rows = scored_rows(metric, tuned.measured[key], tuned.samples)
        if not rows or len(base.measured[key].statistics) != len(rows):
            continue
        asked = [tuned.samples[row] for row in rows]
        for name, note, groups in _divisions(config, asked, by):
            found = _groups(groups, base.measured[key], tuned.measured[key], seed=seed)
            head = {"metric": key, "by": name, "note": note, "fewest": FEWEST, "groups": found}
            tables.append(head | _direction(tuned.measured[key]))
    return tables


def _chosen(
    config: EvaluateConfig, metrics: Sequence[RowMetric], measured: Mapping[str, Measured]
) -> dict[str, RowMetric]:
    """Metric by key: the primary one, then every yes/no metric."""
    known = {key: metric for key, metric in owners(config, metrics).items() if key in measured}
    keys = [key for key in known if key == config.primary or measured[key].yes_no]
    return {key: known[key] for key in sorted(keys, key=lambda key: key != config.primary)}


def _direction(measured: Measured) -> dict[str, Any]:
    return {"unit": measured.unit, "higher_is_better": measured.higher_is_better}


def _divisions(config: EvaluateConfig, samples: Sequence[Sample], by: Sequence[str]) -> list[tuple[str, str, Groups]]:
    """(name, how the groups were made, groups) for every way that gives two groups or more."""
    options = intent_options(config)
    found: list[tuple[str, str, Groups]] = []
    if options is not None:
        found.append((_plain(options.label), "by the right label", by_label(samples, options.label)))
    keys = [key for key in by if options is None or _plain(key) != _plain(options.label)]
    found += [(_plain(key), f"by {key} of the row", by_key(samples, key)) for key in keys]
    note = "thirds of the rows by characters of the prompt; equal lengths stay together"
    found.append((LENGTH, note, by_length(samples)))
    return [division for division in found if len(division[2]) > 1]


def _plain(key: str) -> str:
    return key.removeprefix("metadata.")


def by_label(samples: Sequence[Sample], key: str) -> Groups:
    """Rows by the label at `key`, as labels are compared; a group is named as its first row spells the label."""
    names: dict[str, str] = {}
    groups: dict[str, list[int]] = {}
    for row, sample in enumerate(samples):
        label = metadata_value(sample.metadata, key)
        same = NO_VALUE if label is None else normalize(label)
        names.setdefault(same, label or NO_VALUE)
        groups.setdefault(same, []).append(row)
    return [(names[same], rows) for same, rows in groups.items()]


def by_key(samples: Sequence[Sample], key: str) -> Groups:
    """Rows by what stands at the metadata key."""
    groups: dict[str, list[int]] = {}
    for row, sample in enumerate(samples):
        groups.setdefault(metadata_value(sample.metadata, key) or NO_VALUE, []).append(row)
    return list(groups.items())


def by_length(samples: Sequence[Sample]) -> Groups:
    """Rows in thirds by the number of characters of the prompt; the names say the limits. Rows of the same length are
    never parted, so that there can be fewer than three groups."""
    lengths = [len(sample.prompt) for sample in samples]
    ordered = sorted(lengths)
    cuts = sorted({ordered[math.ceil(len(ordered) * part / PARTS) - 1] for part in range(1, PARTS)}) if ordered else []
    limits = [*(cut for cut in cuts if cut < ordered[-1]), ordered[-1]] if ordered else []
    groups, low = [], 0
    for high in limits:
        rows = [row for row, length in enumerate(lengths) if low <= length <= high]
        groups.append((f"{low} to {high} characters", rows))
        low = high + 1
    return groups


def _groups(groups: Groups, base: Measured, tuned: Measured, *, seed: int) -> list[dict[str, Any]]:
    """The rows of one table, the worst change first."""
    parts = [(name, _part(base, rows), _part(tuned, rows)) for name, rows in groups]
    differences = {name: _compared(ours, theirs, seed=seed) for name, theirs, ours in parts}
    told = holm({name: found.p for name, found in differences.items() if found.n >= FEWEST})
    sign = 1 if tuned.higher_is_better else -1
    found = [
        {
            "group": name,
            "n": len(ours.statistics),
            "base": _shown(to_score(theirs, seed=seed)),
            "tuned": _shown(to_score(ours, seed=seed)),
            "difference": _difference(differences[name], told.get(name), higher_is_better=tuned.higher_is_better),
        }
        for name, theirs, ours in parts
    ]
    return sorted(found, key=lambda row: (sign * row["difference"]["difference"], -row["n"], row["group"]))


def _part(measured: Measured, rows: Sequence[int]) -> Measured:
    return dataclasses.replace(measured, statistics=measured.statistics[list(rows)])


def _shown(score: Score) -> dict[str, float]:
    return {"value": score.value, "low": score.low, "high": score.high}


def _compared(ours: Measured, theirs: Measured, *, seed: int) -> Difference:
    found = compare_paired(ours, theirs, seed=seed)
    if not ours.yes_no:
        return found
    low, high = paired_rates(ours, theirs)
    return found.model_copy(update={"low": low, "high": high})


def paired_rates(ours: Measured, theirs: Measured) -> tuple[float, float]:
    """95 % interval of the difference of two yes/no rates over the same rows, ours minus theirs: method 10 of Newcombe
    1998 (Statistics in Medicine 17, 2635-2650), from both Wilson intervals and the correlation of the answers. Where no
    row changed a bootstrap would say that the difference is 0 for certain, also of three rows."""
    tuned, base = (side.statistics[:, 0] > 0 for side in (ours, theirs))
    n, p, q = len(tuned), float(tuned.mean()), float(base.mean())
    (p_low, p_high), (q_low, q_high) = (wilson(int(side.sum()), n) for side in (tuned, base))
    apart = float((tuned & base).sum() * (~tuned & ~base).sum()) - float((tuned & ~base).sum() * (~tuned & base).sum())
    spread = math.sqrt(p * (1 - p) * q * (1 - q)) * n * n
    correlation = (max(apart - n / 2, 0.0) if apart > 0 else apart) / spread if spread else 0.0
    low = _root_of_squares(p - p_low, q_high - q, correlation)
    high = _root_of_squares(p_high - p, q - q_low, correlation)
    return p - q - low, p - q + high


def _root_of_squares(a: float, b: float, correlation: float) -> float:
    return math.sqrt(max(0.0, a * a - 2 * correlation * a * b + b * b))


def _difference(found: Difference, p_holm: float | None, *, higher_is_better: bool) -> dict[str, Any]:
    """p_holm: None for a group of too few rows."""
    row = found.model_dump(include={"difference", "low", "high", "p", "test"}) | {"p_holm": p_holm}
    if p_holm is None:
        return row | {"verdict": TOO_FEW}
    counted = found.model_copy(update={"p": p_holm})
    return row | {"verdict": verdict(counted, higher_is_better=higher_is_better)}
