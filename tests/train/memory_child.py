"""Trains in a process whose address space is cut down once a checkpoint is on disk, so that memory really runs out."""

from __future__ import annotations

import ctypes
import resource
import sys
import threading
import time
from pathlib import Path

from train_kit import workspace_at

from tunewright.core.runs import Artifact
from tunewright.models.config import ModelConfig
from tunewright.train import stage
from tunewright.train.config import TrainConfig

MMAP_THRESHOLD = -3
"""mallopt's number for it: blocks above it go back to the system when they are freed, so the limit bites."""


def address_space() -> int:
    """Bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def cut_down(folder: Path, room: int) -> None:
    """Waits for the first whole checkpoint; then the process may grow by `room` bytes only."""
    while not list(folder.rglob("checkpoint-*/whole.json")):
        time.sleep(0.002)
    limit = address_space() + room
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main(root: Path, room: int) -> None:
    """room 0: no limit."""
    ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, 1 << 16)
    workspace = workspace_at(root)
    data = Artifact.open(next(workspace.stage_directory("data").glob("*")))
    settings = TrainConfig.model_validate(
        {
            "steps": 4,
            "rows_per_step": 48,
            "micro_batch_tokens": 16384,
            "learning_rate": 1e-3,
            "evaluations_per_epoch": 1000,
            "early_stopping": None,
            "share_prefix": False,
            "effect": {"required": False},
        }
    )
    if room:
        threading.Thread(target=cut_down, args=(workspace.stage_directory("train"), room), daemon=True).start()
    done = stage.run(workspace, settings, model=ModelConfig(path="builtin:tiny", dtype="float32"), seed=7, data=data)
    sys.stdout.write(str(done.path) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
