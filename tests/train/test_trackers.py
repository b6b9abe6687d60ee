"""Trackers: refused with the pip line before anything slow, TensorBoard's files in the run's folder."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path

import pytest
from train_kit import data_artifact, workspace_at

from tunewright.core.errors import MissingExtraError
from tunewright.models.config import ModelConfig
from tunewright.train import stage, trackers
from tunewright.train.config import TrainConfig

TINY = ModelConfig(path="builtin:tiny", dtype="float32")


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb", "trackio"])
def test_a_tracker_that_is_not_installed_is_named_with_its_pip_line(tmp_path: Path, name: str) -> None:
    if find_spec(name) is not None:
        trackers.check([name])
        pytest.skip(f"{name} is installed here")
    workspace = workspace_at(tmp_path)
    config = TrainConfig.model_validate({"epochs": 1, "report_to": [name]})
    with pytest.raises(MissingExtraError, match=f"names {name}, which is not installed") as caught:
        stage.run(workspace, config, model=TINY, seed=7, data=data_artifact(workspace))
    assert caught.value.exit_code == 4
    assert caught.value.fix == f"pip install {name}, or leave it out"
    assert not workspace.stage_directory("train").exists()


def test_nothing_is_reported_unasked() -> None:
    assert TrainConfig().report_to == ()
    assert trackers.callbacks((), Path("none"), after_step=0) == []
    assert trackers.by_trainer(("tensorboard", "mlflow")) == ["mlflow"]


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="tensorboard is not installed")
def test_tensorboard_gets_losses_and_metrics_beside_the_artifacts(tmp_path: Path) -> None:
    accumulator = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    workspace = workspace_at(tmp_path)
    config = TrainConfig.model_validate({"epochs": 2, "rows_per_step": 8, "report_to": ["tensorboard"]})
    artifact = stage.run(workspace, config, model=TINY, seed=7, data=data_artifact(workspace))
    logs = tmp_path / "runs" / "made" / "tensorboard" / "0001"
    found = accumulator.EventAccumulator(str(logs)).Reload()
    assert {"train/loss", "train/learning_rate", "train/grad_norm", "eval/loss"} <= set(found.Tags()["scalars"])
    curve = artifact.json("curve.json")
    losses = [point.value for point in found.Scalars("train/loss")]
    assert losses == pytest.approx([point["loss"] for point in curve["train"]], rel=1e-5)
    assert not [record.path for record in artifact.manifest.files if "tensorboard" in record.path]
