"""Two ranks on CPU for tests: `python ranks_kit.py FOLDER` imports everything once, then forks ranks, episode by
episode, as `FOLDER/episodes.json` says. Each case is a training of the tiny model in a folder of its own.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from train_kit import data_artifact, interrupting_exam, workspace_at

from tunewright.core.errors import Interrupted, TunewrightError
from tunewright.core.listen import free_port
from tunewright.core.runs import Artifact
from tunewright.models.config import ModelConfig
from tunewright.train import stage
from tunewright.train.config import TrainConfig

RANKS = 2
SETTINGS: dict[str, Any] = {
    "steps": 4,
    "learning_rate": 5e-3,
    "rows_per_step": 5,
    "evaluations_per_epoch": 2,
    "early_stopping": None,
    "evaluate_generated": {"rows": 2, "max_new_tokens": 2},
    "effect": {"required": False},
}
Case = dict[str, Any]
"""name: its folder; train: settings on top of SETTINGS; dtype; stop: {rank, at} raises SIGTERM there; wait: seconds
that every step is slowed down by, so that a kill finds it running."""


def train(root: Path, case: Case, *, stop_at: int = 0) -> Artifact:
    """Runs the stage in this process, as a rank or alone."""
    workspace = workspace_at(root / case["name"])
    model = ModelConfig.model_validate({"path": "builtin:tiny", "dtype": case.get("dtype", "float32")})
    config = TrainConfig.model_validate(SETTINGS | case["train"])
    (data,) = workspace.finished("data")
    return stage.run(workspace, config, model=model, seed=7, data=data, exam=interrupting_exam(at=stop_at))


def prepare(root: Path, cases: list[Case]) -> None:
    """The data artifact of each case."""
    for case in cases:
        workspace = workspace_at(root / case["name"])
        if not workspace.finished("data"):
            data_artifact(workspace, rows=case.get("rows", 23))


def run_episodes(root: Path, episodes: list[dict[str, Any]], *, timeout: float) -> list[dict[str, Any]]:
    """Hands the episodes to a process of their own. An episode: cases, and kill: {rank, path}, which kills a rank once
    the path is there. Returns for each one {codes: exit codes by rank, said: what the ranks wrote}."""
    prepare(root, [case for episode in episodes for case in episode["cases"]])
    (root / "episodes.json").write_text(json.dumps(episodes))
    done = subprocess.run(
        [sys.executable, __file__, str(root)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads((root / "results.json").read_text())
    return found


def _main(root: Path) -> None:
    _load_everything()
    results = []
    for number, episode in enumerate(json.loads((root / "episodes.json").read_text())):
        port = free_port()
        logs = [root / f"said_{number}_{rank}.txt" for rank in range(RANKS)]
        started = [_fork(root, episode["cases"], rank, port, logs[rank]) for rank in range(RANKS)]
        if "kill" in episode:
            _wait_for(root / episode["kill"]["path"])
            os.kill(started[episode["kill"]["rank"]], signal.SIGKILL)
        codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in started]
        results.append({"codes": codes, "said": [log.read_text() for log in logs]})
    (root / "results.json").write_text(json.dumps(results))


def _load_everything() -> None:
    """What the ranks would import each; frozen, so that no garbage collection of theirs walks through it."""
    import peft  # noqa: F401
    import transformers.models.llama.modeling_llama  # noqa: F401

    from tunewright.train.methods import full, lora  # noqa: F401
    from tunewright.train.sharding import ddp, fsdp  # noqa: F401

    if find_spec("deepspeed"):
        from tunewright.train.sharding import zero  # noqa: F401
    gc.collect()
    gc.freeze()


def _fork(root: Path, cases: list[Case], rank: int, port: int, log: Path) -> int:
    process = os.fork()
    if process:
        return process
    with log.open("w") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(RANKS)}
        os.environ |= {"LOCAL_WORLD_SIZE": str(RANKS), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os._exit(_rank(root, cases, rank))


def _rank(root: Path, cases: list[Case], rank: int) -> int:
    import torch.distributed as dist

    dist.init_process_group("gloo")
    try:
        for case in cases:
            stop = case.get("stop", {})
            try:
                train(root, case, stop_at=stop["at"] if stop.get("rank") == rank else 0)
            except Interrupted as error:
                print(error)
                train(root, case)
        dist.destroy_process_group()
        return 0
    except TunewrightError as error:
        print(error)
        return error.exit_code
    except Exception:
        import traceback

        traceback.print_exc()
        return 99
    finally:
        sys.stdout.flush()


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.005)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
