"""Base against tuned: scores with intervals and floors, paired differences, samples side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from tunewright.core.scoring import Difference, Measured, Sample, Score, compare, to_score
from tunewright.evaluate.config import METRICS, EvaluateConfig
from tunewright.evaluate.rows import applying
from tunewright.evaluate.scorer import RowMetric

MOST_WORSE = 20
"""How many of the rows that got worse are listed as text."""
SHOWN = 48
"""Characters of a question or an answer in that list."""
Change = Literal["worse", "better", "same", "unknown"]


def derangement(n: int, *, seed: int) -> list[int]:
    """A random order of 0..n-1 in which nothing stays in its place (one cycle: Sattolo 1986). n >= 2."""
    generator = np.random.default_rng(seed)
    order = list(range(n))
    for last in range(n - 1, 0, -1):
        other = int(generator.integers(0, last))
        order[last], order[other] = order[other], order[last]
    return order


def wrong_answer_floors(metric: RowMetric, samples: Sequence[Sample], *, seed: int) -> dict[str, float]:
    """The metric with every prediction scored against another row's reference; empty for fewer than two rows, and for
    a metric of recorded conversations, which compares nothing with a reference."""
    rows = applying(samples, metric.applies)
    if len(rows) < 2 or getattr(metric, "of_recordings", False):
        return {}
    wrong = [
        rows[other].model_copy(update={"prediction": row.prediction, "choice": row.choice})
        for row, other in zip(rows, derangement(len(rows), seed=seed), strict=True)
    ]
    return {measured.metric: measured.value for measured in metric.measure(wrong)}


def scores_of(measured: Mapping[str, Measured], floors: Mapping[str, float], *, seed: int) -> dict[str, Score]:
    """Every metric as a number with its interval."""
    return {key: to_score(value, seed=seed, floor=floors.get(key)) for key, value in measured.items()}


def differences_of(tuned: Mapping[str, Measured], base: Mapping[str, Measured], *, seed: int) -> dict[str, Difference]:
    """Tuned minus base for every metric."""
    return {key: compare(tuned[key], base[key], seed=seed) for key in tuned}


def verdict(difference: Difference, *, higher_is_better: bool) -> str:
    """ "better", "worse" or "no difference shown", with p."""
    if difference.p >= 0.05 or difference.difference == 0:
        return f"no difference shown (p {difference.p:.2g})"
    is_better = (difference.difference > 0) == higher_is_better
    return f"{'better' if is_better else 'worse'} (p {difference.p:.2g})"


def right_rows(metric: RowMetric, measured: Measured, samples: Sequence[Sample]) -> list[bool | None]:
    """Whether each answer is right by a yes/no metric; None for rows that it does not score."""
    outcomes = iter(measured.statistics[:, 0])
    return [bool(next(outcomes)) if metric.applies(sample.metadata) else None for sample in samples]


def owners(config: EvaluateConfig, metrics: Sequence[RowMetric]) -> dict[str, RowMetric]:
    """Which of `metrics` (those that `row_metrics` made of `config`) measures each key."""
    chosen = [options for options in config.metrics if issubclass(METRICS.target(options.name), RowMetric)]
    return {
        key: metric
        for options, metric in zip(chosen, metrics, strict=True)
        for key in METRICS.target(options.name).metric_keys(options)
    }


def scored_rows(metric: RowMetric, measured: Measured, samples: Sequence[Sample]) -> list[int]:
    """The index in `samples` of every line of `measured.statistics`: the rows that apply, or those of them that give
    this number at all (steps where the reference has none). Empty when no such rows are found."""
    rows = [index for index, sample in enumerate(samples) if metric.applies(sample.metadata)]
    if len(rows) != len(measured.statistics):
        rows = [row for row in rows if any(one.metric == measured.metric for one in metric.measure([samples[row]]))]
    return rows if len(rows) == len(measured.statistics) else []


def row_scores(metric: RowMetric, measured: Measured, samples: Sequence[Sample]) -> list[float | None]:
    """The score of each sample alone; None for those that the metric does not score."""
    found: list[float | None] = [None] * len(samples)
    alone = measured.aggregate(measured.statistics[:, None, :])
    for row, value in zip(scored_rows(metric, measured, samples), alone, strict=False):
        found[row] = float(value)
    return found


def primary_row_scores(
    config: EvaluateConfig, metrics: Sequence[RowMetric], samples: Sequence[Sample], measured: Mapping[str, Measured]
) -> list[float | None] | None:
    """The primary metric's score of each sample alone. None where right and wrong say as much (a yes/no metric of
    which more is better), and where the primary metric is none of answers."""
    metric, found = owners(config, metrics).get(config.primary), measured.get(config.primary)
    if metric is None or found is None or (found.yes_no and found.higher_is_better):
        return None
    return row_scores(metric, found, samples)


def side_by_side(
    base: Sequence[Sample],
    tuned: Sequence[Sample],
    *,
    base_right: Sequence[bool | None],
    tuned_right: Sequence[bool | None],
    base_scores: Sequence[float | None] | None = None,
    tuned_scores: Sequence[float | None] | None = None,
    promoted: Sequence[Sample] | None = None,
) -> list[dict[str, Any]]:
    """Rows of samples.jsonl. `promoted` stands in them where that model was asked as well, `base_score` and
    `tuned_score` where the primary metric gives each row a number (`primary_row_scores`)."""
    rows: list[dict[str, Any]] = [
        {
            "id": ours.id,
            "prompt": ours.prompt,
            "reference": ours.reference,
            "base": theirs.prediction,
            "tuned": ours.prediction,
            "base_right": was_right,
            "tuned_right": is_right,
            "metadata": ours.metadata,
        }
        for theirs, ours, was_right, is_right in zip(base, tuned, base_right, tuned_right, strict=True)
    ]
    if base_scores is not None and tuned_scores is not None:
        rows = [
            row | {"base_score": before, "tuned_score": after}
            for row, before, after in zip(rows, base_scores, tuned_scores, strict=True)
        ]
    if promoted is not None:
        rows = [row | {"promoted": sample.prediction} for row, sample in zip(rows, promoted, strict=True)]
    return rows


def change_of(row: Mapping[str, Any], *, higher_is_better: bool) -> Change:
    """What became of one row of samples.jsonl: by its scores where it has them, else by right and wrong."""
    before, after = row.get("base_score"), row.get("tuned_score")
    if before is None or after is None:
        before, after, higher_is_better = row.get("base_right"), row.get("tuned_right"), True
    if before is None or after is None:
        return "unknown"
    if before == after:
        return "same"
    return "better" if (after > before) == higher_is_better else "worse"


def got_worse(rows: Sequence[Mapping[str, Any]], *, higher_is_better: bool = True) -> list[Mapping[str, Any]]:
    """The rows of samples.jsonl that got worse, the largest loss first, else in their order. higher_is_better: of the
    primary metric."""
    worse = [row for row in rows if change_of(row, higher_is_better=higher_is_better) == "worse"]
    return sorted(worse, key=lambda row: -abs((row.get("tuned_score") or 0.0) - (row.get("base_score") or 0.0)))


def worse_text(rows: Sequence[Mapping[str, Any]], *, higher_is_better: bool = True) -> str:
    """The rows that got worse, at most MOST_WORSE of them, a line each; one line when none did or nothing says so."""
    if all(change_of(row, higher_is_better=higher_is_better) == "unknown" for row in rows):
        return "which rows got worse is not known: no metric scores a row by itself"
    worse = got_worse(rows, higher_is_better=higher_is_better)
    said = f"{len(worse)} of {len(rows)} rows got worse" + (":" if worse else "")
    if len(worse) > MOST_WORSE:
        said = f"{len(worse)} of {len(rows)} rows got worse; the first {MOST_WORSE}:"
    return "\n".join([said, *map(_worse_line, worse[:MOST_WORSE])])


def _worse_line(row: Mapping[str, Any]) -> str:
    before, after = row.get("base_score"), row.get("tuned_score")
    scores = "" if before is None or after is None else f" ({before:.3g} -> {after:.3g})"
    return f"  {row['id']}{scores}  {_short(row['prompt'])}  base: {_short(row['base'])}  tuned: {_short(row['tuned'])}"


def _short(text: Any) -> str:
    line = " ".join(str(text).split())
    return repr(line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…")
