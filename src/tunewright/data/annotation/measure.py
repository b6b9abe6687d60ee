"""From the labels of all rows to agreement, consensus and the rows that annotators dispute."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tunewright.core.agreement import (
    MISSING,
    Coefficient,
    Floats,
    Ratings,
    cohen_kappa,
    fleiss_kappa,
    item_agreement,
    krippendorff_alpha,
    raw_agreement,
)
from tunewright.core.consensus import Consensus, dawid_skene, majority
from tunewright.core.errors import ConfigError
from tunewright.data.annotation.labels import BadLabels, labels_of
from tunewright.data.annotation.options import Method, Metric, Scale
from tunewright.data.annotation.report import SHOWN_ANNOTATORS, AnnotationReport, Annotator, Bad, Disputed

DISPUTED = 10
_BAD_EXAMPLES = 3
_BAD_REASONS = 20


class Collected:
    """The labels of rows as columns: some 20 bytes a label and the rows' ids, which the caller holds anyway."""

    def __init__(self, categories: Sequence[str] = ()) -> None:
        self.known = tuple(categories)
        self.ids: list[str] = []
        self.bad: dict[str, Bad] = {}
        self._items, self._raters, self._labels = array("q"), array("q"), array("q")
        self._annotators: dict[str, int] = {}
        self._categories: dict[str, int] = {name: number for number, name in enumerate(categories)}

    def add(self, row_id: str, value: Any) -> None:
        """value: what stands under annotation.labels; None for a row without labels."""
        position = len(self.ids)
        self.ids.append(row_id)
        try:
            labels = labels_of(value, self.known)
        except BadLabels as fault:
            reason = str(fault) if str(fault) in self.bad or len(self.bad) < _BAD_REASONS else "other reasons"
            bad = self.bad.setdefault(reason, Bad(reason))
            bad.count += 1
            bad.examples += [row_id] if len(bad.examples) < _BAD_EXAMPLES else []
            return
        for annotator, label in labels.items():
            self._items.append(position)
            self._raters.append(self._annotators.setdefault(annotator, len(self._annotators)))
            self._labels.append(self._categories.setdefault(label, len(self._categories)))

    @property
    def annotators(self) -> list[str]:
        """By number."""
        return list(self._annotators)

    def ratings(self, scale: Scale) -> tuple[Ratings, list[str]]:
        """The columns and the names of the categories in their order."""
        names = list(self._categories)
        order = list(range(len(names))) if self.known else _order(names, scale)
        place = np.empty(max(len(names), 1), np.int64)
        place[order] = np.arange(len(order))
        items, raters, labels = (np.array(c, np.int64) for c in (self._items, self._raters, self._labels))
        label = place[labels] if len(labels) else labels
        ratings = Ratings(items, raters, label, len(self.ids), len(self._annotators), len(names))
        return ratings, [names[number] for number in order]


def _order(names: Sequence[str], scale: Scale) -> list[int]:
    numbers = [_number(name) for name in names]
    if all(number is not None for number in numbers):
        return sorted(range(len(names)), key=lambda i: (numbers[i], names[i]))
    if scale == "nominal":
        return sorted(range(len(names)), key=names.__getitem__)
    word = next(name for name, number in zip(names, numbers, strict=True) if number is None)
    raise ConfigError(
        f"the order of the labels is not known: '{word}' is no number",
        where="data.annotation.categories",
        fix=f"list the categories from lowest to highest (scale {scale})",
    )


def _number(name: str) -> float | None:
    try:
        value = float(name)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None


def measure(
    rows: Iterable[tuple[str, Any]],
    *,
    scale: Scale = "nominal",
    categories: Sequence[str] = (),
    consensus: Method = "dawid_skene",
    metric: Metric = "alpha",
    seed: int,
) -> AnnotationReport:
    """Agreement and consensus of `rows`: (id, what stands under annotation.labels). The rows are read once.

    A row whose labels have no known form is counted with its reason and otherwise left alone. Raises ConfigError when
    scale ordinal or interval meets labels whose order is not known.
    """
    collected = Collected(categories)
    for row_id, value in rows:
        collected.add(row_id, value)
    return summarize(collected, scale=scale, consensus=consensus, metric=metric, seed=seed)


def summarize(collected: Collected, *, scale: Scale, consensus: Method, metric: Metric, seed: int) -> AnnotationReport:
    """The report on labels that were collected one by one."""
    ratings, names = collected.ratings(scale)
    sizes = np.bincount(ratings.item, minlength=ratings.items)
    values = [float(name) for name in names] if scale == "interval" else ()
    made = {"dawid_skene": dawid_skene, "majority": majority}[consensus](ratings) if consensus != "none" else None
    agreed = item_agreement(ratings)
    return AnnotationReport(
        rows=len(collected.ids),
        labelled=int((sizes > 0).sum()),
        double=int((sizes > 1).sum()),
        unanimous=int((agreed == 1).sum()),
        scale=scale,
        metric=metric,
        seed=seed,
        categories=tuple(names),
        raw=raw_agreement(ratings, seed=seed),
        kappa=_kappa(ratings, seed),
        alpha=krippendorff_alpha(ratings, level=scale, values=values, seed=seed),
        consensus=consensus,
        converged=made is None or made.converged,
        ties=0 if made is None else made.ties,
        distribution=_distribution(made, names),
        annotators=_annotators(ratings, collected.annotators, made, names),
        disputed=_disputed(collected, ratings, names, agreed, made),
        bad=tuple(collected.bad.values()),
        ids=tuple(collected.ids),
        labels=array("i", (made.label if made else np.full(ratings.items, MISSING)).tolist()),
    )


def _kappa(ratings: Ratings, seed: int) -> Coefficient:
    return cohen_kappa(ratings, seed=seed) if ratings.raters == 2 else fleiss_kappa(ratings, seed=seed)


def _distribution(made: Consensus | None, names: Sequence[str]) -> dict[str, int]:
    if made is None:
        return {}
    counts = np.bincount(made.label[made.label != MISSING], minlength=len(names)).tolist()
    return dict(zip(names, counts, strict=True))


def _annotators(
    ratings: Ratings, annotators: Sequence[str], made: Consensus | None, names: Sequence[str]
) -> tuple[Annotator, ...]:
    given = np.bincount(ratings.rater, minlength=max(len(annotators), 1)).tolist()
    order = sorted(range(len(annotators)), key=lambda number: (-given[number], annotators[number]))
    return tuple(
        Annotator(
            annotators[number],
            given[number],
            float(made.accuracy[number]) if made else None,
            _confusion(ratings, number, made.label, names) if made and rank < SHOWN_ANNOTATORS else {},
        )
        for rank, number in enumerate(order)
    )


def _confusion(ratings: Ratings, rater: int, label: Any, names: Sequence[str]) -> dict[str, dict[str, int]]:
    """{consensus: {given: rows}}; rows without a consensus are not in it."""
    own = ratings.rater == rater
    pairs = Counter(zip(label[ratings.item[own]].tolist(), ratings.label[own].tolist(), strict=True))
    found: dict[str, dict[str, int]] = {}
    for (true, given), count in sorted(pairs.items()):
        if true != MISSING:
            found.setdefault(names[true], {})[names[given]] = count
    return found


def _disputed(
    collected: Collected, ratings: Ratings, names: Sequence[str], agreed: Floats, made: Consensus | None
) -> tuple[Disputed, ...]:
    """The rows with the least agreement, of equals those whose consensus is least certain, then in reading order."""
    open_ = np.flatnonzero(agreed < 1)
    certainty = made.probability[open_] if made else np.zeros(len(open_))
    chosen = open_[np.lexsort((open_, np.round(certainty, 9), agreed[open_]))][:DISPUTED]
    found = []
    for item in chosen.tolist():
        own = np.flatnonzero(ratings.item == item)
        labels = {collected.annotators[ratings.rater[i]]: names[ratings.label[i]] for i in own.tolist()}
        label = None if made is None or made.label[item] == MISSING else names[made.label[item]]
        probability = float(made.probability[item]) if made else None
        found.append(Disputed(collected.ids[item], labels, float(agreed[item]), label, probability))
    return tuple(found)
