"""What the votes say: agreement, consistency, levels and preferences, each with n and an interval. Pure functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunewright.core.agreement import Coefficient, Ints, Ratings, krippendorff_alpha, raw_agreement
from tunewright.core.scoring import bootstrap, mean_of_rows, paired_bootstrap, percentile_interval, wilson
from tunewright.rating.preference import Pair, Strength, pairs, ranking
from tunewright.rating.study import DIMENSIONS, LEVELS, PREFERENCES, SKIPPED, Vote


@dataclass(frozen=True)
class Rate:
    """A share with its 95 % Wilson interval."""

    successes: int
    n: int

    @property
    def value(self) -> float | None:
        """None without cases."""
        return self.successes / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float]:
        """(0, 1) without cases."""
        return wilson(self.successes, self.n)

    def dump(self) -> dict[str, Any]:
        """For --json."""
        low, high = self.interval
        return {"value": self.value, "low": low, "high": high, "successes": self.successes, "n": self.n}


@dataclass(frozen=True)
class Levels:
    """How a system did in a dimension. counts: ratings by level, from bad to good; mean: 0 to 2, of the items' means,
    with a 95 % bootstrap interval over items."""

    system: str
    dimension: str
    counts: tuple[int, ...]
    items: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Gap:
    """The second system minus the first in a dimension, over items where both were rated: mean of 0 to 2 levels."""

    first: str
    second: str
    dimension: str
    items: int
    difference: float
    low: float
    high: float
    p: float

    @property
    def verdict(self) -> str:
        """In words."""
        if self.p >= 0.05 or self.difference == 0:
            return f"no difference shown (p {self.p:.2g})"
        return f"{self.second if self.difference > 0 else self.first} is better (p {self.p:.2g})"


@dataclass(frozen=True)
class RaterReport:
    """One rater. preference, levels: how often a repeat got the same answer; left: how often the left side won."""

    name: str
    votes: int
    skipped: int
    preference: Rate
    levels: Rate
    left: Rate


@dataclass(frozen=True)
class Results:
    """Everything measured. alpha, raw: by dimension, and `preference` (nominal)."""

    systems: tuple[str, ...]
    seed: int
    votes: int
    items: int
    raters: tuple[RaterReport, ...]
    alpha: dict[str, Coefficient]
    raw: dict[str, Coefficient]
    levels: tuple[Levels, ...]
    gaps: tuple[Gap, ...]
    pairs: tuple[Pair, ...]
    ranking: tuple[Strength, ...]

    def dump(self) -> dict[str, Any]:
        """For --json."""
        return {
            "systems": self.systems,
            "seed": self.seed,
            "votes": self.votes,
            "items": self.items,
            "raters": [
                dataclasses.asdict(rater)
                | {"preference": rater.preference.dump(), "levels": rater.levels.dump(), "left": rater.left.dump()}
                for rater in self.raters
            ],
            "alpha": {name: value.dump() for name, value in self.alpha.items()},
            "raw_agreement": {name: value.dump() for name, value in self.raw.items()},
            "levels": [
                dataclasses.asdict(one) | {"counts": dict(zip(LEVELS, one.counts, strict=True))} for one in self.levels
            ],
            "gaps": [dataclasses.asdict(gap) | {"verdict": gap.verdict} for gap in self.gaps],
            "pairs": [_dump_pair(pair) for pair in self.pairs],
            "bradley_terry": [dataclasses.asdict(strength) for strength in self.ranking],
        }


def _dump_pair(pair: Pair) -> dict[str, Any]:
    low, high = pair.interval
    return {
        "first": pair.first,
        "second": pair.second,
        "votes": {name: pair.votes[name] for name in (pair.first, pair.second, "tie", "both_bad")},
        "items": pair.items,
        "items_first": pair.items_first,
        "items_second": pair.items_second,
        "win_rate_second": {"value": pair.rate, "low": low, "high": high, "n": pair.decided},
        "p": pair.p,
        "more_items": pair.more_items,
        "more_votes": pair.more_votes,
        "verdict": pair.verdict,
    }


def results(votes: Sequence[Vote], systems: Sequence[str], *, seed: int) -> Results:
    """All numbers from the votes that stand. Only first showings count; repeats measure consistency alone."""
    counted = [vote for vote in votes if vote.counts]
    names = sorted({vote.rater for vote in votes})
    levels = {name: _level_ratings(counted, names, name) for name in DIMENSIONS}
    compared = pairs(counted, systems)
    kinds = {**levels, "preference": _preference_ratings(counted, names, systems)}
    return Results(
        systems=tuple(systems),
        seed=seed,
        votes=len(counted),
        items=len({vote.item for vote in counted}),
        raters=tuple(_rater(name, [vote for vote in votes if vote.rater == name]) for name in names),
        alpha={
            name: krippendorff_alpha(ratings, level="nominal" if name == "preference" else "ordinal", seed=seed)
            for name, ratings in kinds.items()
        },
        raw={name: raw_agreement(ratings, seed=seed) for name, ratings in kinds.items()},
        levels=tuple(
            found for name in DIMENSIONS for system in systems if (found := _levels(counted, system, name, seed))
        ),
        gaps=tuple(gap for pair in compared for gap in _gaps(counted, pair, seed)),
        pairs=tuple(compared),
        ranking=tuple(ranking(counted, systems, seed=seed)) if len(systems) > 2 else (),
    )


def _ratings(rows: dict[tuple[Any, str], int], names: Sequence[str], categories: int) -> Ratings:
    """rows: by thing and rater, the category."""
    things = {thing: number for number, thing in enumerate(dict.fromkeys(thing for thing, _ in rows))}
    item = np.array([things[thing] for thing, _ in rows], dtype=np.int64)
    rater = np.array([names.index(name) for _, name in rows], dtype=np.int64)
    label: Ints = np.array(list(rows.values()), dtype=np.int64)
    return Ratings(item, rater, label, len(things), len(names), categories)


def _level_ratings(votes: Sequence[Vote], names: Sequence[str], dimension: str) -> Ratings:
    """The things rated are answers: an item of a system. A rater who met one twice counts with the first time."""
    rows: dict[tuple[Any, str], int] = {}
    for vote in votes:
        for system in (vote.left, vote.right):
            level = vote.level(system, dimension)
            if level is not None:
                rows.setdefault(((vote.item, system), vote.rater), level)
    return _ratings(rows, names, len(LEVELS))


def _preference_ratings(votes: Sequence[Vote], names: Sequence[str], systems: Sequence[str]) -> Ratings:
    categories = (*systems, *PREFERENCES[2:])
    rows: dict[tuple[Any, str], int] = {}
    for vote in votes:
        thing = (vote.item, frozenset((vote.left, vote.right)))
        rows.setdefault((thing, vote.rater), categories.index(vote.outcome))
    return _ratings(rows, names, len(categories))


def _rater(name: str, votes: Sequence[Vote]) -> RaterReport:
    first = {vote.position: vote for vote in votes if vote.repeat_of is None}
    again = [
        (first[vote.repeat_of], vote)
        for vote in votes
        if vote.repeat_of in first and SKIPPED not in (vote.outcome, first[vote.repeat_of].outcome)
    ]
    same = [
        one.level(system, dimension) == two.level(system, dimension)
        for one, two in again
        for system in (one.left, one.right)
        for dimension in DIMENSIONS
    ]
    decided = [vote for vote in first.values() if vote.winner]
    return RaterReport(
        name=name,
        votes=sum(vote.counts for vote in votes),
        skipped=sum(vote.outcome == SKIPPED for vote in votes),
        preference=Rate(sum(one.outcome == two.outcome for one, two in again), len(again)),
        levels=Rate(sum(same), len(same)),
        left=Rate(sum(vote.judgement.preference == "left" for vote in decided), len(decided)),
    )


def _item_means(votes: Sequence[Vote], system: str, dimension: str) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for vote in votes:
        if system in (vote.left, vote.right) and (level := vote.level(system, dimension)) is not None:
            found.setdefault(vote.item, []).append(level)
    return found


def _levels(votes: Sequence[Vote], system: str, dimension: str, seed: int) -> Levels | None:
    given = _item_means(votes, system, dimension)
    if not given:
        return None
    means = np.array([[sum(levels) / len(levels)] for levels in given.values()])
    counts = np.bincount([level for levels in given.values() for level in levels], minlength=len(LEVELS))
    low, high = percentile_interval(bootstrap(means, mean_of_rows, seed=seed))
    return Levels(system, dimension, tuple(counts.tolist()), len(means), float(means.mean()), low, high)


def _gaps(votes: Sequence[Vote], pair: Pair, seed: int) -> list[Gap]:
    found = []
    for dimension in DIMENSIONS:
        one, two = (_item_means(votes, system, dimension) for system in (pair.first, pair.second))
        both = [item for item in one if item in two]
        first, second = (np.array([[np.mean(given[item])] for item in both]) for given in (one, two))
        if both:
            numbers = paired_bootstrap(second, first, mean_of_rows, seed=seed)
            found.append(Gap(pair.first, pair.second, dimension, len(both), *numbers))
    return found
