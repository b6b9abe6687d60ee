"""One label from many: majority, or the model of Dawid & Skene, which learns how reliable each rater is.

Source: Dawid & Skene 1979, "Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm", Applied
Statistics 28, 20-28. Items with the same ratings are computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from tunewright.core.agreement import MISSING, Floats, Group, Ints, Ratings, grouped
from tunewright.core.scoring import CHUNK_BYTES

_TIE = 1e-6
_TOLERANCE = 1e-6
_FLOOR = 1e-300


@dataclass(frozen=True)
class Consensus:
    """label: [items] int64, -1 where the best two are equal or there is no rating; probability: [items] of the label,
    or of the best; prior: [k] share of each category.

    accuracy: [raters] mean probability that a rating is right by this consensus, NaN without ratings; expected: [C, k]
    how many items of each true category got rating `code` (rater * k + label) of `codes` [C]; ties: items where no
    label wins.
    """

    method: str
    label: Ints
    probability: Floats
    prior: Floats
    accuracy: Floats
    codes: Ints
    expected: Floats
    ties: int
    iterations: int = 0
    converged: bool = True

    def confusion(self, rater: int) -> Floats:
        """[k, k] items of each true category (rows) by the label the rater gave (columns)."""
        k = len(self.prior)
        found = np.zeros((k, k))
        own = self.codes // k == rater
        found[:, self.codes[own] % k] = self.expected[own].T
        return found


class _Votes:
    """The ratings by item pattern: groups of rows of positions in `codes`."""

    def __init__(self, ratings: Ratings) -> None:
        self.categories, self.raters, self.items = ratings.categories, ratings.raters, ratings.items
        self.codes, positions = np.unique(ratings.rater * ratings.categories + ratings.label, return_inverse=True)
        self.groups = list(grouped(ratings, positions.astype(np.int64).reshape(-1)))
        self.label, self.rater = self.codes % ratings.categories, self.codes // ratings.categories

    def blocks(self) -> Iterator[tuple[Group, slice]]:
        """Parts of the groups whose [rows, size, k] values fit into bounded memory."""
        for group in self.groups:
            step = max(1, CHUNK_BYTES // (8 * self.categories * group.rows.shape[1]))
            for start in range(0, len(group.rows), step):
                yield group, slice(start, start + step)

    def shares(self, rows: Ints) -> Floats:
        """[P, k] share of each label among the ratings of a row."""
        votes: Floats = np.eye(self.categories)[self.label[rows]].mean(axis=1)
        return votes

    def expectations(self, posterior: Callable[[Ints], Floats]) -> tuple[Floats, Floats]:
        """([C, k] expected items of each true category by rating, [k] expected items of each)."""
        table, totals = np.zeros((len(self.codes), self.categories)), np.zeros(self.categories)
        for group, part in self.blocks():
            rows = group.rows[part]
            weighted = posterior(rows) * group.weight[part, None]
            totals += weighted.sum(axis=0)
            for true in range(self.categories):  # quicker than np.add.at and np.add.reduceat over rows of k
                spread = np.repeat(weighted[:, true], rows.shape[1])
                table[:, true] += np.bincount(rows.reshape(-1), spread, minlength=len(self.codes))
        return table, totals

    def settled(self, method: str, posterior: Callable[[Ints], Floats]) -> Consensus:
        """The label of every item by its posterior."""
        label, probability = np.full(self.items, MISSING), np.zeros(self.items)
        for group, part in self.blocks():
            chances = posterior(group.rows[part])
            best = chances.argmax(axis=1)
            highest = chances.max(axis=1)
            wins = (chances > highest[:, None] - _TIE).sum(axis=1) == 1
            inside = (group.which >= part.start) & (group.which < part.stop)
            items, which = group.items[inside], group.which[inside] - part.start
            label[items], probability[items] = np.where(wins, best, MISSING)[which], highest[which]
        table, totals = self.expectations(posterior)
        given = np.bincount(self.rater, table.sum(axis=1), minlength=self.raters)
        right = np.bincount(self.rater, table[np.arange(len(self.codes)), self.label], minlength=self.raters)
        rated = sum(len(group.items) for group in self.groups)
        return Consensus(
            method,
            label,
            probability,
            totals / max(rated, 1),
            np.divide(right, given, out=np.full(self.raters, np.nan), where=given > 0),
            self.codes,
            table,
            ties=rated - int((label != MISSING).sum()),
        )


def majority(ratings: Ratings) -> Consensus:
    """The label most raters gave; none where several are equal. Where votes are equal each counts in its share."""
    votes = _Votes(ratings)

    def winners(rows: Ints) -> Floats:
        shares = votes.shares(rows)
        best = shares > shares.max(axis=1, keepdims=True) - _TIE
        found: Floats = best / best.sum(axis=1, keepdims=True)
        return found

    return votes.settled("majority", winners)


def dawid_skene(ratings: Ratings, *, smoothing: float = 0.01, max_iterations: int = 500) -> Consensus:
    """Maximum likelihood of true categories and raters' error rates by EM, started from the shares of votes.

    smoothing: items added to every cell of every rater's table, so that a rater with few ratings is never taken for
    certain (0 is the paper's own estimate). Ends when no estimate moves by 1e-6, else `converged` is False.
    Deterministic; where raters are exchangeable, equal votes stay a tie.
    """
    votes = _Votes(ratings)
    posterior: Callable[[Ints], Floats] = votes.shares
    known: Floats | None = None
    change, iteration = np.inf, 0
    while change > _TOLERANCE and iteration < max_iterations:
        iteration += 1
        table, totals = votes.expectations(posterior)
        rates = _rates(votes, table, smoothing)
        prior = totals / max(totals.sum(), 1.0)
        now = np.vstack([rates, prior])
        change = np.inf if known is None else float(np.abs(now - known).max(initial=0))
        known, posterior = now, _posterior(np.log(np.maximum(rates, _FLOOR)), np.log(np.maximum(prior, _FLOOR)))
    return replace(votes.settled("dawid_skene", posterior), iterations=iteration, converged=bool(change <= _TOLERANCE))


def _rates(votes: _Votes, table: Floats, smoothing: float) -> Floats:
    """[C, k] probability of each rating, given the true category."""
    given = np.zeros((votes.raters, votes.categories))
    np.add.at(given, votes.rater, table)
    whole = given[votes.rater] + smoothing * votes.categories
    even = np.full_like(table, 1 / max(votes.categories, 1))
    rates: Floats = np.divide(table + smoothing, whole, out=even, where=whole > 0)
    return rates


def _posterior(rates: Floats, prior: Floats) -> Callable[[Ints], Floats]:
    """Rows of ratings to probabilities of categories. rates, prior: logarithms."""

    def chances(rows: Ints) -> Floats:
        logs = prior + rates[rows].sum(axis=1)
        odds = np.exp(logs - logs.max(axis=1, keepdims=True))
        found: Floats = odds / odds.sum(axis=1, keepdims=True)
        return found

    return chances
