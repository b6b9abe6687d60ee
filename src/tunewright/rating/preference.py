"""Which system is preferred: wins by item, rates with Wilson intervals, strengths, and how many votes are missing."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tunewright.core.scoring import RESAMPLES, Z_95, mcnemar, percentile_interval, resample_indices, wilson
from tunewright.rating.bradley_terry import against_average, strengths
from tunewright.rating.study import Vote

MOST_MORE = 10_000
"""A larger estimate is not printed as a number: systems that close are equal for practice."""
Outcomes = Counter[str]


@dataclass(frozen=True)
class Pair:
    """Two systems against each other. votes: all raters' first votes by outcome; items are the unit of the rate, since
    two votes on one item are no two independent facts: an item goes to the system that more raters preferred."""

    first: str
    second: str
    votes: Outcomes
    items: int
    items_first: int
    items_second: int

    @property
    def decided(self) -> int:
        """Items that one of both won."""
        return self.items_first + self.items_second

    @property
    def rate(self) -> float | None:
        """Share of the decided items that the second system won."""
        return self.items_second / self.decided if self.decided else None

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson."""
        return wilson(self.items_second, self.decided)

    @property
    def p(self) -> float:
        """Exact two-sided sign test over the decided items."""
        won = [True] * self.items_second + [False] * self.items_first
        return mcnemar(won, [not one for one in won])

    @property
    def shown(self) -> bool:
        """Whether a difference is shown."""
        return self.p < 0.05

    @property
    def more_items(self) -> int | None:
        """Decided items that are still missing if the rate stays what it is; 0 when a difference is shown, None when
        there is no rate or more than MOST_MORE would be needed."""
        return 0 if self.shown else items_needed(self.items_second, self.decided)

    @property
    def more_votes(self) -> int | None:
        """more_items as votes, at the present number of votes for a decided item."""
        more = self.more_items
        return more if not more else math.ceil(more * self.votes.total() / self.decided)

    @property
    def verdict(self) -> str:
        """In words; silence would be read as success."""
        if self.shown:
            better = self.second if self.items_second > self.items_first else self.first
            return f"{better} is preferred (p {self.p:.2g})"
        if not self.decided:
            return "no verdict yet: no item is decided"
        more = self.more_votes
        needed = f"about {more:,} more votes" if more is not None else f"more than {MOST_MORE:,} more items"
        return f"no difference shown (p {self.p:.2g}); a verdict needs {needed} if the rate stays (estimate)"


def items_needed(wins: int, decided: int) -> int | None:
    """Further decided items until a 95 % interval leaves one half out, at the observed rate: n = (z / 2 |rate - 1/2|)^2
    by the normal approximation. None for a rate of one half, for none, and beyond MOST_MORE."""
    if not decided or 2 * wins == decided:
        return None
    total = math.ceil((Z_95 / (2 * abs(wins / decided - 0.5))) ** 2)
    more = max(1, total - decided)
    return more if more <= MOST_MORE else None


def pairs(votes: Iterable[Vote], systems: Sequence[str]) -> list[Pair]:
    """Every pair of systems that was shown, in the order of `systems`. Votes that do not count are left out."""
    by_item: dict[tuple[str, str], dict[int, Outcomes]] = defaultdict(lambda: defaultdict(Counter))
    for vote in votes:
        if vote.counts:
            by_item[_key(vote, systems)][vote.item][vote.outcome] += 1
    found = []
    for first, second in itertools.combinations(systems, 2):
        items = by_item.get((first, second), {})
        if items:
            lead = [said[second] - said[first] for said in items.values()]
            total = sum(items.values(), Counter())
            won = sum(one < 0 for one in lead), sum(one > 0 for one in lead)
            found.append(Pair(first, second, total, len(items), *won))
    return found


def _key(vote: Vote, systems: Sequence[str]) -> tuple[str, str]:
    first, second = sorted((vote.left, vote.right), key=systems.index)
    return first, second


@dataclass(frozen=True)
class Strength:
    """A system among more than two. value: log-odds against the average of those compared, with a 95 % interval
    (bootstrap over items); chance: to be preferred over that average."""

    system: str
    value: float
    low: float
    high: float
    chance: float


def ranking(votes: Iterable[Vote], systems: Sequence[str], *, seed: int) -> list[Strength]:
    """Bradley-Terry strengths, the strongest first; empty without votes. An item's pair weighs 1 however many voted."""
    places = {system: place for place, system in enumerate(systems)}
    said: dict[int, dict[tuple[str, str], list[Vote]]] = defaultdict(lambda: defaultdict(list))
    for vote in votes:
        if vote.counts:
            said[vote.item][_key(vote, systems)].append(vote)
    if not said:
        return []
    wins = np.zeros((len(said), len(systems), len(systems)))
    for row, by_pair in enumerate(said.values()):
        for (first, second), cast in by_pair.items():
            share = sum({first: 1.0, second: 0.0}.get(vote.outcome, 0.5) for vote in cast) / len(cast)
            wins[row, places[first], places[second]] = share
            wins[row, places[second], places[first]] = 1 - share
    drawn = resample_indices(len(wins), seed=seed, resamples=RESAMPLES)
    counts = np.stack([np.bincount(rows, minlength=len(wins)) for rows in drawn]).astype(np.float64)
    value = strengths(wins.sum(axis=0)[None])[0]
    spread = strengths(np.einsum("rn,nij->rij", counts, wins))
    found = [
        Strength(system, float(value[i]), *percentile_interval(spread[:, i]), float(against_average(value)[i]))
        for system, i in places.items()
    ]
    return sorted(found, key=lambda strength: -strength.value)
