"""The step plan: which rows each step sees."""

from __future__ import annotations

from tunewright.models.tokens import Example
from tunewright.train.plan import plan_steps


def rows(*lengths: int) -> list[Example]:
    return [Example((1,) * length, (-100,) * length, str(index)) for index, length in enumerate(lengths)]


def test_every_epoch_sees_every_row_once_in_another_order() -> None:
    plan = plan_steps(rows(*[5] * 10), epochs=3, rows_per_step=4, tokens_per_step=None, seed=1)
    assert [len(step) for step in plan.steps] == [4, 4, 2] * 3
    epochs = [[row for step in plan.steps[i : i + 3] for row in step] for i in (0, 3, 6)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert plan.per_epoch == 3


def test_a_fractional_epoch_ends_early() -> None:
    plan = plan_steps(rows(*[5] * 16), epochs=1.5, rows_per_step=4, tokens_per_step=None, seed=1)
    assert len(plan.steps) == 6


def test_steps_by_tokens_stay_below_the_limit_unless_one_row_is_longer() -> None:
    examples = rows(10, 20, 30, 40, 200, 10, 20)
    plan = plan_steps(examples, epochs=1, rows_per_step=None, tokens_per_step=64, seed=2)
    assert sorted(row for step in plan.steps for row in step) == list(range(7))
    for step in plan.steps:
        tokens = sum(len(examples[row].input_ids) for row in step)
        assert tokens <= 64 or len(step) == 1


def test_steps_in_place_of_epochs() -> None:
    """The same rows in the same order as by epochs, cut after the number of steps, past one epoch where needed."""
    by_epochs = plan_steps(rows(*[5] * 10), epochs=3, rows_per_step=4, seed=1)
    for wanted in (1, 3, 7, 9):
        plan = plan_steps(rows(*[5] * 10), steps=wanted, rows_per_step=4, seed=1)
        assert plan.steps == by_epochs.steps[:wanted]
        assert plan.per_epoch == 3


def test_three_epochs_of_32_rows_by_default() -> None:
    assert [len(step) for step in plan_steps(rows(*[5] * 40), seed=1).steps] == [32, 8] * 3


def test_same_seed_same_plan() -> None:
    one, two, other = (
        plan_steps(rows(*[5] * 10), epochs=2, rows_per_step=3, tokens_per_step=None, seed=seed).steps
        for seed in (1, 1, 2)
    )
    assert one == two
    assert one != other
