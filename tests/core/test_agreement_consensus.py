"""Consensus labels: Dawid & Skene's own data, a plain-loop EM, known raters, ties."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.core.agreement import Ratings
from tunewright.core.consensus import dawid_skene, majority

# Dawid & Skene 1979, table 1: 45 patients, five anaesthetists, the first of whom rated three times.
PATIENTS = """
111.1.1.1.1 333.4.3.3.4 112.2.1.2.2 222.3.1.2.1 222.3.2.2.2 222.3.3.2.2 122.2.1.1.1 333.3.4.3.3 222.2.2.2.3
232.2.2.2.3 444.4.4.4.4 222.3.3.4.3 111.1.1.1.1 222.3.2.1.2 121.1.1.1.1 111.2.1.1.1 111.1.1.1.1 111.1.1.1.1
222.2.2.2.1 222.1.3.2.2 222.2.2.2.2 222.2.2.2.1 222.3.2.2.2 221.2.2.2.2 111.1.1.1.1 111.1.1.1.1 232.2.2.2.2
111.1.1.1.1 111.1.1.1.1 112.1.1.2.1 111.1.1.1.1 333.3.2.3.3 111.1.1.1.1 222.2.2.2.2 222.3.2.3.2 433.4.3.4.3
221.2.2.3.2 232.3.2.3.3 333.3.4.3.2 111.1.1.1.1 111.1.1.1.1 121.2.1.1.1 232.2.2.2.2 121.1.1.1.1 222.2.2.2.2
"""


def triples(text: str) -> list[tuple[int, int, int]]:
    return [
        (patient, observer, int(label) - 1)
        for patient, row in enumerate(text.split())
        for observer, labels in enumerate(row.split("."))
        for label in labels
    ]


@pytest.fixture(scope="module")
def patients() -> Ratings:
    item, rater, label = np.array(triples(PATIENTS), np.int64).T
    return Ratings(item, rater, label, 45, 5, 4)


def test_the_estimates_of_the_paper(patients: Ratings) -> None:
    """Table 2: marginals .40 .42 .11 .07, and the error rates of observer 1."""
    found = dawid_skene(patients, smoothing=0)
    assert found.converged
    assert found.prior == pytest.approx([0.40, 0.42, 0.11, 0.07], abs=0.005)
    table = found.confusion(0)
    assert table / table.sum(axis=1, keepdims=True) == pytest.approx(
        np.array([[0.89, 0.11, 0, 0], [0.07, 0.88, 0.05, 0], [0, 0.34, 0.66, 0], [0, 0, 0.56, 0.44]]), abs=0.006
    )
    assert (found.label + 1).tolist()[:4] == [1, 4, 2, 2]
    assert table.sum() == pytest.approx(135)  # 45 patients, three times


def em_by_loops(rows: list[tuple[int, int, int]], *, raters: int, k: int, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """The paper's algorithm as it is written: (posterior [items, k], rates [raters, k, k])."""
    items = 1 + max(item for item, _, _ in rows)
    counts = np.zeros((items, raters, k))
    for item, rater, label in rows:
        counts[item, rater, label] += 1
    posterior = counts.sum(axis=1) / counts.sum(axis=(1, 2))[:, None]
    for _ in range(rounds):
        prior = posterior.mean(axis=0)
        rates = np.einsum("ij,irl->rjl", posterior, counts)
        rates /= np.maximum(rates.sum(axis=2, keepdims=True), 1e-300)
        for item in range(items):
            for j in range(k):
                posterior[item, j] = prior[j] * np.prod(rates[:, j, :] ** counts[item])
            posterior[item] /= posterior[item].sum()
    return posterior, rates


def test_against_plain_loops(patients: Ratings) -> None:
    posterior, _ = em_by_loops(triples(PATIENTS), raters=5, k=4, rounds=40)
    found = dawid_skene(patients, smoothing=0)
    assert found.label.tolist() == posterior.argmax(axis=1).tolist()
    assert found.probability == pytest.approx(posterior.max(axis=1), abs=1e-4)


def simulated(accuracies: list[float], *, n: int, k: int, seed: int) -> tuple[Ratings, np.ndarray]:
    random = np.random.default_rng(seed)
    true = random.integers(0, k, n)
    wrong = (true[:, None] + random.integers(1, k, (n, len(accuracies)))) % k
    given = np.where(random.random((n, len(accuracies))) < accuracies, true[:, None], wrong)
    return Ratings.of_table(given.tolist(), categories=k), true


def test_reliable_raters_outvote_a_crowd_of_guessers() -> None:
    """Two raters of 95 % against three who guess: majority follows the noise, the model does not."""
    ratings, true = simulated([0.95, 0.95, 0.34, 0.34, 0.34], n=2000, k=3, seed=1)
    learned, counted = dawid_skene(ratings), majority(ratings)
    assert (learned.label == true).mean() > 0.93
    assert (counted.label == true).mean() < 0.85
    assert learned.accuracy == pytest.approx([0.95, 0.95, 0.34, 0.34, 0.34], abs=0.04)


def test_a_rater_who_always_swaps_is_understood() -> None:
    """The confusion matrix, not the accuracy alone: who says 1 for 2 and 2 for 1 tells as much as who is right."""
    ratings, true = simulated([0.9, 0.9, 0.9], n=1500, k=2, seed=2)
    swapped = np.where(ratings.rater == 2, 1 - ratings.label, ratings.label)
    found = dawid_skene(Ratings(ratings.item, ratings.rater, swapped, ratings.items, 3, 2))
    assert (found.label == true).mean() == pytest.approx(0.972, abs=0.015)  # 3 of 3 right or 2 of 3: .9^3 + 3*.81*.1
    assert found.accuracy[2] == pytest.approx(0.1, abs=0.03)


def test_missing_ratings_and_single_ones() -> None:
    table = [[0, 0, -1], [1, -1, 1], [-1, -1, 0], [-1, -1, -1], [1, 1, 1], [0, 0, 0]]
    for found in (dawid_skene(Ratings.of_table(table, categories=2)), majority(Ratings.of_table(table, categories=2))):
        assert found.label.tolist() == [0, 1, 0, -1, 1, 0]
        assert found.ties == 0  # an item without ratings is no tie
        assert found.probability[3] == 0


def test_equal_votes_stay_a_tie() -> None:
    """Raters that nothing tells apart: no label is made up, whatever the order of rows."""
    table = [[0, 0], [1, 1], [0, 1], [1, 0]]
    for rows in (table, table[::-1]):
        ratings = Ratings.of_table(rows, categories=2)
        for found in (dawid_skene(ratings), majority(ratings)):
            expected = [a if a == b else -1 for a, b in rows]
            assert found.label.tolist() == expected
            assert found.ties == 2


def test_a_known_better_rater_breaks_the_tie() -> None:
    """Rater 2 contradicts two others often, so where raters 0 and 2 differ alone, rater 0 is believed."""
    ratings, true = simulated([0.97, 0.97, 0.6], n=600, k=2, seed=4)
    keep = ~((ratings.item < 100) & (ratings.rater == 1))
    partial = Ratings(ratings.item[keep], ratings.rater[keep], ratings.label[keep], 600, 3, 2)
    first = partial.label[(partial.rater == 0) & (partial.item < 100)]
    assert (dawid_skene(partial).label[:100] == first).all()
    assert majority(partial).ties > 20
    assert (dawid_skene(partial).label[:100] == true[:100]).mean() > 0.9


def test_majority_counts() -> None:
    found = majority(Ratings.of_table([[0, 0, 1], [2, 2, 2], [0, 1, 2]], categories=3))
    assert found.label.tolist() == [0, 2, -1]
    assert found.probability == pytest.approx([1, 1, 1 / 3])
    assert found.accuracy[:2] == pytest.approx([(1 + 1 + 1 / 3) / 3] * 2)
    assert found.accuracy[2] == pytest.approx((0 + 1 + 1 / 3) / 3)


def test_it_ends_and_says_when_it_has_not_converged(patients: Ratings) -> None:
    assert not dawid_skene(patients, max_iterations=2).converged
    assert dawid_skene(patients).converged


def test_smoothing_keeps_a_rater_with_one_rating_from_certainty(patients: Ratings) -> None:
    table = [[0, 0, -1]] * 10 + [[1, 1, -1]] * 10 + [[-1, -1, 0], [0, 0, 1]]
    ratings = Ratings.of_table(table, categories=2)
    found = dawid_skene(ratings, smoothing=1.0)
    assert found.probability[20] < 0.9
    assert found.label[21] == 0


def test_no_ratings_at_all() -> None:
    empty = Ratings.of_table([[-1, -1]] * 3, categories=2)
    for found in (dawid_skene(empty), majority(empty)):
        assert found.label.tolist() == [-1, -1, -1]
        assert np.isnan(found.accuracy).all()
