"""The command itself: `tunewright train --launch 2`, stopped by a signal, and the next start finishes it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from train_kit import data_artifact, workspace_at

from tunewright.train import checkpoint, stage

PROJECT = """
name: made
model: {path: builtin:tiny}
data: {sources: [none.jsonl]}
train: {epochs: 500, learning_rate: 1e-3, rows_per_step: 4, evaluations_per_epoch: 1, keep_checkpoints: 1,
        early_stopping: null, effect: {required: false}, method: {name: lora, rank: 2}, sharding: {name: ddp}}
"""


@pytest.mark.slow
def test_sigterm_to_the_launcher_saves_on_both_ranks(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    data_artifact(workspace)
    (tmp_path / "p.yaml").write_text(PROJECT)
    command = [sys.executable, "-m", "tunewright", "train", str(tmp_path / "p.yaml"), "--launch", "2"]
    with (tmp_path / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    checkpoints = workspace.stage_directory("train") / "0001" / stage.CHECKPOINTS
    deadline = time.monotonic() + 200
    while not (checkpoints / "checkpoint-12" / checkpoint.MARK).exists():
        assert process.poll() is None, (tmp_path / "log.txt").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    said = (tmp_path / "log.txt").read_text()
    assert "2 ranks (gloo on CPU), DDP: " in said and "Traceback" not in said
    assert said.count("stopped by a signal after step") == 1, "the first rank says it for all"
    step = int(said.partition("after step ")[2].partition(";")[0])
    kept = checkpoint.last_whole(checkpoints)
    assert kept is not None and checkpoint.step_of(kept) == step
    assert {f"rng_state_{rank}.pth" for rank in range(2)} <= {path.name for path in kept.iterdir()}
