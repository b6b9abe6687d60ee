"""Training on the tiny model: it learns, it resumes bit by bit, it saves what it says."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from train_kit import data_artifact, workspace_at

from tunewright.core.chat import Conversation
from tunewright.core.errors import ConfigError
from tunewright.core.runs import Artifact, Workspace
from tunewright.models import source, tuned
from tunewright.models.config import ModelConfig
from tunewright.models.load import load_model
from tunewright.models.loss import mean_loss
from tunewright.models.tokens import ChatTokenizer
from tunewright.train import stage
from tunewright.train.config import TrainConfig
from tunewright.train.methods.options import FullOptions, LoraOptions

TINY = ModelConfig(path="builtin:tiny", dtype="float32")
BASE_SETTINGS: dict[str, Any] = {
    "epochs": 3,
    "learning_rate": 5e-3,
    "rows_per_step": 4,
    "evaluations_per_epoch": 1,
    "warmup_ratio": 0,
}


def validation_loss(model: Any, artifact: Artifact, base: Path) -> float:
    tokenizer = ChatTokenizer.load(base)
    rows = [Conversation.from_row(row) for row in artifact.jsonl("validation.jsonl")]
    return mean_loss(model, [e for row in rows for e in tokenizer.examples(row, max_length=512)])[0]


@pytest.fixture(scope="module")
def base() -> Path:
    return source.resolve(TINY, Path())


@pytest.mark.parametrize("method", [LoraOptions(), FullOptions()], ids=["lora", "full"])
def test_what_is_saved_is_what_was_trained(tmp_path: Path, base: Path, method: Any) -> None:
    """The reopened model's validation loss is the best one the curve shows, and lower than the base's."""
    workspace = workspace_at(tmp_path)
    data = data_artifact(workspace)
    artifact = stage.run(workspace, TrainConfig(method=method, **BASE_SETTINGS), model=TINY, seed=7, data=data)
    curve = artifact.json("curve.json")
    facts = artifact.manifest.facts
    assert [point["step"] for point in curve["train"]] == list(range(1, 19))
    assert curve["validation"][-1]["epoch"] == 3
    trained = tuned.open_tuned(artifact, TINY, base, dtype=torch.float32)
    loss = validation_loss(trained, data, base)
    assert loss == pytest.approx(min(point["loss"] for point in curve["validation"]), rel=1e-4)
    assert loss == pytest.approx(facts["validation_loss"], rel=1e-4)
    assert loss < validation_loss(load_model(base, dtype=torch.float32), data, base) - 0.5
    assert not (artifact.path / stage.CHECKPOINTS).exists()
    info = tuned.model_info(artifact)
    assert info.kind == ("full" if method.name == "full" else "adapter")
    assert info.base_sha256 == source.weights_sha256(base)
    assert (facts["trained_parameters"] == facts["total_parameters"]) is (method.name == "full")


def test_the_adapter_loads_in_stock_peft_and_merging_changes_nothing(tmp_path: Path, base: Path) -> None:
    from peft import PeftModel

    workspace = workspace_at(tmp_path)
    data = data_artifact(workspace)
    artifact = stage.run(workspace, TrainConfig(**BASE_SETTINGS), model=TINY, seed=7, data=data)
    folder = artifact.folder("adapter")
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "builtin:tiny"
    plain = load_model(base, dtype=torch.float32)
    ids = torch.tensor([ChatTokenizer.load(base).encode("card 7 fee")])
    with torch.inference_mode():
        before = plain(input_ids=ids).logits.clone()
        adapted = PeftModel.from_pretrained(plain, str(folder)).eval()(input_ids=ids).logits.clone()
        merged = tuned.open_tuned(artifact, TINY, base, dtype=torch.float32)(input_ids=ids).logits
    assert torch.allclose(merged, adapted, atol=1e-5)
    assert not torch.allclose(merged, before, atol=1e-2)


@pytest.mark.parametrize("limit", [64, 4096])
def test_micro_batches_and_packing_do_not_change_the_training(tmp_path: Path, base: Path, limit: int) -> None:
    """One step's loss is the mean over its trained tokens, however the rows are grouped, packed or padded."""
    losses = []
    for packing in (True, False):
        workspace = workspace_at(tmp_path / f"{packing}{limit}")
        config = TrainConfig(packing=packing, micro_batch_tokens=limit, **BASE_SETTINGS)
        artifact = stage.run(workspace, config, model=TINY, seed=7, data=data_artifact(workspace))
        losses.append([point["loss"] for point in artifact.json("curve.json")["train"]])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert losses[0][-1] < losses[0][0]


def test_a_second_run_has_nothing_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = workspace_at(tmp_path)
    data = data_artifact(workspace)
    config = TrainConfig(**BASE_SETTINGS | {"epochs": 1})
    first = stage.run(workspace, config, model=TINY, seed=7, data=data)
    again = stage.run(workspace, config, model=TINY, seed=7, data=data)
    assert again.path == first.path
    assert "nothing to do" in capsys.readouterr().err
    other = stage.run(workspace, config, model=TINY, seed=8, data=data)
    assert other.path != first.path


def test_early_stopping_keeps_the_best_checkpoint(tmp_path: Path, base: Path) -> None:
    """A learning rate that destroys the model: the first evaluation is the best, two more end it."""
    workspace = workspace_at(tmp_path)
    data = data_artifact(workspace)
    settings = BASE_SETTINGS | {"learning_rate": 0.9, "epochs": 20, "schedule": "constant", "evaluations_per_epoch": 2}
    config = TrainConfig(method=FullOptions(), early_stopping={"patience": 2}, **settings)  # type: ignore[arg-type]
    artifact = stage.run(workspace, config, model=TINY, seed=7, data=data)
    facts = artifact.manifest.facts
    assert facts["stopped_early"] is True
    assert facts["steps"] < 120
    trained = tuned.open_tuned(artifact, TINY, base, dtype=torch.float32)
    assert validation_loss(trained, data, base) == pytest.approx(facts["validation_loss"], rel=1e-3)
    losses = [point["loss"] for point in artifact.json("curve.json")["validation"]]
    assert facts["validation_loss"] == min(losses) < losses[-1]


def test_a_target_that_is_no_layer_is_named(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    config = TrainConfig(method=LoraOptions(targets=("no_such_layer",)), **BASE_SETTINGS)
    with pytest.raises(ConfigError, match=r"layers of this model: down_proj, gate_proj"):
        stage.run(workspace, config, model=TINY, seed=7, data=data_artifact(workspace))


def test_sharding_is_refused_not_ignored(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    config = TrainConfig(sharding={"name": "zero", "stage": 2})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"train\.sharding needs several CUDA GPUs"):
        stage.run(workspace, config, model=TINY, seed=7, data=data_artifact(workspace))


PROJECT = """
name: made
model: {path: builtin:tiny}
data: {sources: [none.jsonl]}
train: {epochs: 12, learning_rate: 5e-3, rows_per_step: 2, evaluations_per_epoch: 6, keep_checkpoints: 1,
        method: {name: lora, dropout: 0.1}}
"""


def start(root: Path) -> subprocess.Popen[str]:
    (root / "p.yaml").write_text(PROJECT)
    command = [sys.executable, "-m", "tunewright", "train", str(root / "p.yaml")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def weights(workspace: Workspace) -> bytes:
    return (workspace.newest("train").path / "adapter" / "adapter_model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_and_stopped_training_ends_in_the_same_bytes(tmp_path: Path, soak: bool) -> None:
    """kill -9 after a checkpoint (in the soak 20 more at random moments), then SIGTERM, then to the end: the bytes of a
    run that nothing disturbed."""
    undisturbed, disturbed = workspace_at(tmp_path / "a"), workspace_at(tmp_path / "b")
    for workspace in (undisturbed, disturbed):
        data_artifact(workspace)
    whole = start(undisturbed.root)
    process = start(disturbed.root)
    folder = disturbed.stage_directory("train") / "0001" / stage.CHECKPOINTS
    wait_for(lambda: len(list(folder.glob("checkpoint-*/whole.json"))) >= 1, process)
    process.kill()
    process.communicate()
    assert not (folder.parent / "manifest.json").exists()
    moments = random.Random(5)
    for _ in range(20 if soak else 0):
        process = start(disturbed.root)
        time.sleep(moments.uniform(5, 15))
        process.kill()
        process.communicate()
    before = {path.name for path in folder.glob("checkpoint-*")}
    process = start(disturbed.root)
    wait_for(lambda: {path.name for path in folder.glob("checkpoint-*")} - before, process)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 143, stderr
    assert "stopped by a signal after step" in stderr
    assert "run the same command again" in stderr
    process = start(disturbed.root)
    _, stderr = process.communicate(timeout=200)
    assert process.returncode == 0, stderr
    assert "going on from checkpoint-" in stderr
    _, stderr = whole.communicate(timeout=200)
    assert whole.returncode == 0, stderr
    assert weights(disturbed) == weights(undisturbed)
    curves = [w.newest("train").json("curve.json")["train"] for w in (disturbed, undisturbed)]
    assert curves[0] == curves[1]


def wait_for(condition: Any, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
