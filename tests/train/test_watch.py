"""Findings from losses alone: run away, learned by heart, no longer better."""

from __future__ import annotations

import math

import pytest

from tunewright.train import record
from tunewright.train.config import TrainConfig
from tunewright.train.methods.options import LoraOptions
from tunewright.train.watch import (
    LossWatch,
    Overfitting,
    evaluations_without_improvement,
    ever_overfitted,
    improvements,
    overfitting,
)


def first_alarm(losses: list[float]) -> int | None:
    watch = LossWatch()
    return next((index for index, loss in enumerate(losses) if watch.add(loss)), None)


@pytest.mark.parametrize(
    ("losses", "alarm"),
    [
        ([2.0] * 20 + [9.0] * 8, 24),  # the fifth high loss
        ([2.0] * 20 + [9.0] * 4 + [2.0] + [9.0] * 4, None),  # four in a row are bad luck
        ([0.01] * 20 + [0.9] * 20, None),  # 90 times a tiny loss is still a small one
        ([1.0] * 20 + [2.5] * 20, None),  # harder rows
        ([5.0] + [40.0] * 9, 5),  # from the first step on
        ([8.0, 6.0, 4.0, 2.0, 1.0] * 9, None),
    ],
)
def test_a_loss_that_runs_away(losses: list[float], alarm: int | None) -> None:
    assert first_alarm(losses) == alarm


def test_high_losses_never_become_the_usual_ones() -> None:
    watch = LossWatch([1.0] * 60)
    for _ in range(100):
        watch.add(50.0)
    assert watch.usual == 1.0


def test_a_resumed_watch_goes_on_where_it_was() -> None:
    losses = [2.0] * 10 + [9.0] * 5
    for cut in range(len(losses)):
        watch = LossWatch(losses[:cut])
        assert [watch.add(loss) for loss in losses[cut:]][-1] is True


TRAIN = [(step, 3.0 - 0.02 * step) for step in range(1, 101)]


@pytest.mark.parametrize(
    ("validation", "found"),
    [
        ([1.0, 0.9, 0.95, 1.0], Overfitting(20, 0.9, 40, 1.0)),
        ([1.0, 0.9, 0.95], None),  # one evaluation after the best
        ([1.0, 0.9, 0.905, 0.91], None),  # within 2 %
        ([1.0, 0.9, 0.95, 0.89], None),  # it came back
        ([0.9, 1.0, 1.1], Overfitting(10, 0.9, 30, 1.1)),  # already the first was the best
        ([1.0, 0.9, 0.95, 1.0, 0.89], None),  # it was so, and is over
    ],
)
def test_rising_validation_loss_under_falling_training_loss(validation: list[float], found: Overfitting | None) -> None:
    points = [(10 * (index + 1), loss) for index, loss in enumerate(validation)]
    assert overfitting(TRAIN, points) == found


def test_once_so_is_remembered() -> None:
    losses = [1.0, 0.9, 0.95, 1.0, 0.89]
    points = [(10 * (index + 1), loss) for index, loss in enumerate(losses)]
    assert ever_overfitted(TRAIN, points)
    assert not ever_overfitted(TRAIN, points[:3])


def test_a_model_that_gets_worse_on_its_own_rows_does_not_overfit() -> None:
    rising = [(step, 1 + 0.02 * step) for step in range(1, 101)]
    assert overfitting(rising, [(10, 1.0), (20, 0.9), (30, 1.0), (40, 1.1)]) is None


def test_evaluations_without_improvement() -> None:
    assert evaluations_without_improvement([]) == 0
    assert evaluations_without_improvement([[3], [2], [1]]) == 0
    assert evaluations_without_improvement([[3], [1], [2], [1]]) == 2  # as good is not better
    assert evaluations_without_improvement([[1], [2], [3], [math.inf]]) == 3
    assert evaluations_without_improvement([[0, 3.5], [0, 3.0]]) == 0  # the same accuracy with less loss is better
    assert evaluations_without_improvement([[-0.5, 3.5], [0, 3.0]]) == 1
    assert improvements([[3], [1], [2], [1], [0]]) == 3


FOUND = Overfitting(20, 0.9, 40, 1.0)


def advice(config: TrainConfig, *, is_augmented: bool = False) -> str:
    return record.overfitting_advice(FOUND, config, is_augmented=is_augmented, per_epoch=16)


def test_the_advice_names_the_levers_that_are_not_used_yet() -> None:
    assert advice(TrainConfig()) == (
        "overfitting: the validation loss rose from 0.900 at step 20 to 1.000 at step 40 while the training loss fell; "
        "try augment the training rows (data.augment), train.weight_decay=0.1, train.epochs=1.25 or "
        "train.method.dropout=0.05"
    )
    used = TrainConfig(weight_decay=0.1, steps=40, method=LoraOptions(dropout=0.1))
    assert advice(used, is_augmented=True).endswith("while the training loss fell; try train.steps=20")


def test_the_best_point_follows_the_metric_and_its_direction() -> None:
    def evaluation(step: int, loss: float, accuracy: float, wrong: float) -> dict[str, object]:
        scores = {
            "accuracy": {"value": accuracy, "higher_is_better": True, "n": 8},
            "wrong": {"value": wrong, "higher_is_better": False, "n": 8},
        }
        return {"event": "validation", "step": step, "epoch": step / 10, "loss": loss, "scores": scores}

    rows = [evaluation(10, 0.9, 0.5, 0.1), evaluation(20, 0.8, 0.7, 0.3), evaluation(30, 0.85, 0.7, 0.1)]
    curve = record.curve([*rows, evaluation(20, 0.7, 0.75, 0.3)])  # step 20 was computed again after a kill
    assert record.best(curve, "validation_loss")["best_step"] == 20
    assert record.best(curve, "accuracy") == {
        "best_step": 20,
        "best_metric": "accuracy",
        "best_value": 0.75,
        "validation_loss": 0.7,
    }
    assert record.best(curve, "wrong")["best_step"] == 30  # as few wrong as at step 10, with less loss
    assert [point["value"] for point in curve["metrics"][0]["points"]] == [0.5, 0.75, 0.7]
