"""The `train:` section: exactly one of each pair, and metrics that something measures."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tunewright.train.config import TrainConfig


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"epochs": 1, "steps": 9}, "epochs and steps exclude each other; give exactly one"),
        ({"rows_per_step": 4, "tokens_per_step": 64}, "rows_per_step and tokens_per_step exclude each other"),
        ({"early_stopping": {"metric": "intent.accuracy"}}, "'intent.accuracy' needs generated answers"),
        ({"schedule": "polynomial"}, "warmup_stable_decay"),
        ({"label_smoothing": 1.0}, "less than 1"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        TrainConfig.model_validate(settings)


def test_the_objective_is_the_validation_loss_unless_said() -> None:
    assert TrainConfig().objective == "validation_loss"
    assert TrainConfig(early_stopping=None).objective == "validation_loss"
    stopping = {"metric": "rouge1", "patience": 2}
    config = TrainConfig.model_validate({"early_stopping": stopping, "evaluate_generated": {}})
    assert config.objective == "rouge1"


def test_a_dumped_section_reads_back() -> None:
    config = TrainConfig(steps=7)
    assert TrainConfig.model_validate(config.model_dump(mode="json")) == config
