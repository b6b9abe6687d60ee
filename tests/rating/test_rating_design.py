"""The order of tasks: balanced sides and pairs, the same blocks for all, repeats far enough behind."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from tunewright.rating.design import BLOCK, GAP, Design, Task, oriented

TWO, FOUR = ("base", "tuned"), ("a", "b", "c", "d")
SIZES = [(TWO, 1, 1), (TWO, 7, 1), (TWO, 40, 1), (("a", "b", "c"), 25, 1), (FOUR, 33, 2), (FOUR, 50, 6)]


def firsts(tasks: list[Task]) -> list[Task]:
    return [task for task in tasks if task.repeat_of is None]


@pytest.mark.parametrize(("systems", "items", "each"), SIZES)
@pytest.mark.parametrize("rater", [0, 1, 5])
def test_every_item_is_shown_with_balanced_sides_and_pairs(
    systems: tuple[str, ...], items: int, each: int, rater: int
) -> None:
    tasks = firsts(Design(systems, items, 3, 0.1, each).tasks(rater))
    assert Counter(task.item for task in tasks) == dict.fromkeys(range(items), each)
    left, right = Counter(task.left for task in tasks), Counter(task.right for task in tasks)
    assert all(abs(left[system] - right[system]) <= 1 for system in systems), "sides of every system"
    shown = Counter(frozenset((task.left, task.right)) for task in tasks)
    possible = [frozenset(pair) for pair in itertools.combinations(systems, 2)]
    assert max(shown[pair] for pair in possible) - min(shown[pair] for pair in possible) <= 1, "pairs"


def test_the_second_rater_sees_the_sides_swapped_and_the_third_has_new_ones() -> None:
    design = Design(TWO, 30, 3, 0.1)
    first, second, third = ({t.item: t.left for t in firsts(design.tasks(rater))} for rater in range(3))
    assert all(first[item] != second[item] for item in first)
    assert first != third


def test_raters_share_blocks_but_not_the_order_inside() -> None:
    design = Design(TWO, 35, 3, 0.0)
    one, two = ([task.item for task in design.tasks(rater)] for rater in (0, 1))
    for start in range(0, 35, BLOCK):
        assert set(one[start : start + BLOCK]) == set(two[start : start + BLOCK])
    assert one != two
    assert one != sorted(one)


@pytest.mark.parametrize("items", [6, 9, 10, 25, 200])
def test_repeats_are_a_tenth_swapped_and_at_least_five_tasks_behind(items: int) -> None:
    tasks = Design(TWO, items, 11, 0.1).tasks(0)
    again = [(place, task) for place, task in enumerate(tasks) if task.repeat_of is not None]
    assert len(again) == max(int(items * 0.1 + 0.5), 0)
    assert len({task.item for _, task in again}) == len(again), "no item comes a third time"
    for place, task in again:
        assert task.repeat_of is not None
        first = tasks[task.repeat_of]
        assert first.repeat_of is None
        assert (first.item, first.left, first.right) == (task.item, task.right, task.left)
        assert place - task.repeat_of > GAP, f"{GAP} other tasks lie between"


def test_an_early_stop_has_met_repeats() -> None:
    tasks = Design(TWO, 100, 1, 0.1).tasks(0)
    assert sum(task.repeat_of is not None for task in tasks[:50]) >= 3


def test_repeats_keep_the_sides_even() -> None:
    for seed in range(20):
        lead = Counter(t.left for t in Design(TWO, 60, seed, 0.1).tasks(0) if t.repeat_of is not None)
        assert abs(lead["base"] - lead["tuned"]) <= 1


def test_the_seed_decides_everything() -> None:
    assert Design(TWO, 20, 1, 0.1).tasks(0) == Design(TWO, 20, 1, 0.1).tasks(0)
    assert Design(TWO, 20, 1, 0.1).tasks(0) != Design(TWO, 20, 2, 0.1).tasks(0)


def test_too_few_tasks_for_a_distance_have_no_repeats() -> None:
    assert all(task.repeat_of is None for task in Design(TWO, 5, 1, 0.5).tasks(0))


def test_rounds_give_every_system_as_many_left_as_right() -> None:
    pairs = list(itertools.combinations("abcde", 2))
    found = oriented(pairs, "abcde")
    assert [frozenset(pair) for pair in found] == [frozenset(pair) for pair in pairs]
    assert Counter(left for left, _ in found) == dict.fromkeys("abcde", 2)
