"""Stopped, killed, out of disk: the same command again ends in the bytes of a run that nothing disturbed."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from train_kit import data_artifact, interrupting_exam, workspace_at

from tunewright.core.errors import Interrupted, ResourceError
from tunewright.core.runs import Artifact, Output, Workspace
from tunewright.models.config import ModelConfig
from tunewright.train import checkpoint, stage
from tunewright.train.config import TrainConfig

ROOT = Path(__file__).resolve().parents[2]
LORA = {"name": "lora", "dropout": 0.2}
SETTINGS: dict[str, Any] = {
    "epochs": 5,
    "learning_rate": 5e-3,
    "rows_per_step": 4,
    "evaluations_per_epoch": 2,
    "evaluate_generated": {"rows": 2, "max_new_tokens": 4},
    "method": LORA,
}


def train(workspace: Workspace, config: TrainConfig, *, dtype: str = "float32", stop_at: int = 0) -> Artifact:
    """Runs the stage; SIGTERM at evaluation number `stop_at`."""
    model = ModelConfig.model_validate({"path": "builtin:tiny", "dtype": dtype})
    finished = workspace.finished("data")
    data = finished[0] if finished else data_artifact(workspace)
    return stage.run(workspace, config, model=model, seed=7, data=data, exam=interrupting_exam(at=stop_at))


def weights(artifact: Artifact) -> bytes:
    (place,) = [*artifact.path.glob("adapter/*.safetensors"), *artifact.path.glob("model/*.safetensors")]
    return place.read_bytes()


def checkpoints(workspace: Workspace) -> Path:
    return workspace.stage_directory("train") / "0001" / stage.CHECKPOINTS


CASES: dict[str, tuple[dict[str, Any], str]] = {
    "dropout": ({}, "float32"),
    "noise, smoothing, decay": ({"neftune_alpha": 5, "label_smoothing": 0.1, "weight_decay": 0.1}, "bfloat16"),
    "whole weights with masters": ({"method": {"name": "full"}, "learning_rate": 5e-4}, "bfloat16"),
    "moments in 8 bits, updated in the backward pass": (
        {
            "method": {"name": "full"},
            "learning_rate": 5e-4,
            "optimizer": "adamw_8bit",
            "update_in_backward": True,
        },
        "bfloat16",
    ),
    "padded, by tokens, other schedule": (
        {"packing": False, "rows_per_step": None, "tokens_per_step": 120, "schedule": "warmup_stable_decay"},
        "float32",
    ),
}


@pytest.mark.parametrize(("more", "dtype"), CASES.values(), ids=CASES)
def test_sigterm_saves_and_the_rest_is_bit_identical(tmp_path: Path, more: dict[str, Any], dtype: str) -> None:
    config = TrainConfig.model_validate(SETTINGS | more)
    whole = train(workspace_at(tmp_path / "whole"), config, dtype=dtype)
    workspace = workspace_at(tmp_path / "stopped")
    with pytest.raises(Interrupted, match=r"stopped by a signal after step \d+; the checkpoint is saved") as caught:
        train(workspace, config, dtype=dtype, stop_at=3)
    assert caught.value.exit_code == 128 + signal.SIGTERM
    kept = checkpoint.last_whole(checkpoints(workspace))
    assert kept is not None and f"after step {checkpoint.step_of(kept)};" in caught.value.problem
    assert 0 < checkpoint.step_of(kept) < whole.manifest.facts["steps"]
    rest = train(workspace, config, dtype=dtype)
    assert weights(rest) == weights(whole)
    assert rest.json("curve.json") == whole.json("curve.json")
    assert rest.manifest.facts["resumed"] == 1
    same = ("best_step", "steps", "validation_loss", "tokens", "stopped_early", "overfitting")
    assert [rest.manifest.facts[key] for key in same] == [whole.manifest.facts[key] for key in same]


def test_early_stopping_counts_on_and_is_not_overrun(tmp_path: Path) -> None:
    """Stopped in the middle of its patience, and again at the evaluation that ends it: not one step more."""
    settings = SETTINGS | {"learning_rate": 0.05, "epochs": 30, "schedule": "constant", "warmup_ratio": 0}
    config = TrainConfig.model_validate(settings | {"early_stopping": {"patience": 4}})
    whole = train(workspace_at(tmp_path / "whole"), config)
    assert whole.manifest.facts["stopped_early"] is True
    evaluations = [point["step"] for point in whole.json("curve.json")["validation"]]
    assert evaluations[-1] < 180
    workspace = workspace_at(tmp_path / "stopped")
    with pytest.raises(Interrupted):
        train(workspace, config, stop_at=len(evaluations) - 2)
    with pytest.raises(Interrupted):
        train(workspace, config, stop_at=2)
    rest = train(workspace, config)
    assert rest.manifest.facts["steps"] == evaluations[-1]
    assert rest.json("curve.json") == whole.json("curve.json")
    assert weights(rest) == weights(whole)


def test_a_kill_between_saving_and_sealing_costs_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class KilledError(BaseException):
        """Stands for the end of the process."""

    def die(_: Output) -> Artifact:
        raise KilledError

    workspace, config = workspace_at(tmp_path), TrainConfig.model_validate(SETTINGS)
    with monkeypatch.context() as patch:
        patch.setattr(stage, "_seal", die)
        with pytest.raises(KilledError):
            train(workspace, config)
    events = (checkpoints(workspace).parent / "events.jsonl").read_text()
    artifact = train(workspace, config)
    assert (artifact.path / "events.jsonl").read_text() == events
    assert artifact.manifest.facts["steps"] == 30
    assert not [record.path for record in artifact.manifest.files if "/." in f"/{record.path}"]
    assert not (artifact.path / stage.FINISHED).exists()


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Inside, no file may grow beyond `size` bytes: writes fail as on a full disk, in torch and safetensors too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [60_000, 200_000], ids=["adapter", "optimizer"])
def test_a_failed_write_leaves_the_last_checkpoint(
    tmp_path: Path, size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    config = TrainConfig.model_validate(SETTINGS)
    whole = train(workspace_at(tmp_path / "whole"), config)
    workspace = workspace_at(tmp_path / "full")
    with pytest.raises(Interrupted):
        train(workspace, config, stop_at=2)
    with largest_file(size), pytest.raises(ResourceError, match="the disk is full") as caught:
        train(workspace, config)
    assert "run again to go on from the last checkpoint" in caught.value.fix
    assert "checkpoint-6 is kept" in capsys.readouterr().err
    assert {path.name for path in checkpoints(workspace).iterdir()} == {"checkpoint-3", "checkpoint-6"}
    assert weights(train(workspace, config)) == weights(whole)


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    """A real one: a file system with room for the first checkpoint and half of the next."""
    config = TrainConfig.model_validate(SETTINGS)
    whole = train(workspace_at(tmp_path / "whole"), config)
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=900k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        with pytest.raises(ResourceError, match="the disk is full"):
            train(workspace_at(disk), config)
        kept = checkpoint.last_whole(checkpoints(workspace_at(disk)))
        assert kept is not None and kept.name == "checkpoint-3"
        subprocess.run(["mount", "-o", "remount,size=9m", disk], check=True)
        assert weights(train(workspace_at(disk), config)) == weights(whole)
    finally:
        subprocess.run(["umount", disk], check=True)


PROJECT = """
name: made
model: {path: builtin:tiny}
data: {sources: [none.jsonl]}
train: {epochs: 200, learning_rate: 1e-3, rows_per_step: 2, evaluations_per_epoch: 1, keep_checkpoints: 1,
        dataloader_workers: 2, early_stopping: null, method: {name: lora, dropout: 0.1}}
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_process_group_saves_and_exits(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C and service managers signal the dataloader's workers as well."""
    workspace = workspace_at(tmp_path)
    data_artifact(workspace)
    (tmp_path / "p.yaml").write_text(PROJECT)
    command = [sys.executable, "-m", "tunewright", "train", str(tmp_path / "p.yaml")]
    with (tmp_path / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            command, stderr=log, start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
    wait_for(lambda: (checkpoints(workspace) / "checkpoint-12" / checkpoint.MARK).exists(), process)
    os.killpg(process.pid, number)
    assert process.wait(timeout=60) == 128 + number
    said = (tmp_path / "log.txt").read_text()
    assert "stopped by a signal after step" in said
    assert "Traceback" not in said
    step = int(said.partition("after step ")[2].partition(";")[0])
    kept = checkpoint.last_whole(checkpoints(workspace))
    assert kept is not None and checkpoint.step_of(kept) == step


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, "the training ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_random_moments_the_weights_are_the_same(soak: bool) -> None:
    """benchmarks/resume.py on the real command line: kill -9 during saves and between them, 0 and 2 workers."""
    kills = 20 if soak else 3
    command = [sys.executable, str(ROOT / "benchmarks" / "resume.py"), "--kills", str(kills)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"kills": kills, "identical": kills}, done.stderr
    assert "during a save" in done.stderr
