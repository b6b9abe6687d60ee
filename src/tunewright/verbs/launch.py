"""`train`: on one device, as one rank of many, as the launcher of ranks, or as the writer of a job file."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tunewright import pipeline
from tunewright.cli import Arguments
from tunewright.core.errors import ConfigError
from tunewright.core.events import say
from tunewright.train.sharding import jobs, launcher
from tunewright.verbs.opened import Opened, open_project
from tunewright.verbs.stages import run_stage


def train(arguments: Arguments) -> int:
    """The train stage."""
    if arguments.emit is not None:
        return _emit(arguments)
    if arguments.launch is not None:
        return _launch(arguments)
    if int(os.environ.get("RANK", "0")) > 0:
        return _follow(arguments)
    return run_stage(arguments, "train")


def _follow(arguments: Arguments) -> int:
    """A rank beside the first: takes part and prints nothing."""
    opened = open_project(arguments)
    data = opened.artifact("data")
    pipeline.Stages(opened.config, opened.workspace, opened.file.name).run("train", {"data": data})
    return 0


def _launch(arguments: Arguments) -> int:
    """Starts the ranks. Raises ConfigError, ResourceError when one of them dies."""
    opened, ranks = open_project(arguments), arguments.launch or 0
    _require_sharding(opened)
    if ranks < 1:
        raise ConfigError("--launch needs at least one rank", fix="--launch 2")
    if "--dry-run" in arguments.flags:
        return run_stage(arguments, "train")
    cores = launcher.cores_of_this_machine()
    say(f"train: {ranks} ranks on this machine")
    command = [sys.executable, "-m", "tunewright", "train", str(opened.file), *_rest(arguments)]
    return launcher.launch(command, ranks, environment=dict(os.environ), cores=cores)


def _emit(arguments: Arguments) -> int:
    """The job file on stdout."""
    opened, kind = open_project(arguments), arguments.emit or ""
    _require_sharding(opened)
    if kind not in jobs.EMITTERS:
        raise ConfigError(f"--emit knows {', '.join(jobs.EMITTERS)}, not '{kind}'", fix="--emit slurm")
    job = jobs.Job(
        project=opened.config.name,
        words=[opened.file.name, *_rest(arguments)],
        machines=arguments.nodes or 2,
        ranks=arguments.launch or 8,
        folder=str(opened.file.resolve().parent),
    )
    sys.stdout.write(jobs.EMITTERS[kind](job))
    return 0


def _require_sharding(opened: Opened) -> None:
    if opened.config.train.sharding is None:
        raise ConfigError(
            "several ranks need to know how they share the training, and train.sharding is not set",
            where=str(opened.file),
            fix="add train.sharding.name=ddp, zero or fsdp",
        )


def _rest(arguments: Arguments) -> list[str]:
    """The command line without the project file and what only the launcher reads."""
    source = arguments.from_directory
    flags = sorted(arguments.flags - {"--dry-run"})
    return [*arguments.overrides, *flags, *(["--from", str(Path(source).resolve())] if source else [])]
