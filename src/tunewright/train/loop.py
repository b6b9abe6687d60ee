"""Running the trainer: from the last whole checkpoint, with the machine's faults as errors a user can act on."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError

from tunewright.core import files
from tunewright.core.errors import Interrupted, ResourceError
from tunewright.core.events import Events, say
from tunewright.models.adapters_base import load_base
from tunewright.models.load import load_model
from tunewright.train import checkpoint, precision
from tunewright.train.callbacks import is_over
from tunewright.train.config import TrainConfig
from tunewright.train.memory import OutOfMemory, held_down
from tunewright.train.method import Method
from tunewright.train.noise import embedding_noise
from tunewright.train.plan import StepPlan
from tunewright.train.precision import Precision
from tunewright.train.settle import compile_parts, settle
from tunewright.train.trainer import PackedTrainer
from tunewright.train.watch import TrainingDiverged

_DISK = re.compile(
    r"no space left|disk quota|file too large|os error (28|27|122)|inline_container|PytorchStreamWriter", re.I
)
"""How torch and safetensors spell a write that failed; they raise errors of their own, not OSError."""
_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory", re.I)


_WORKER = "DataLoader worker"
"""How torch begins its complaint about a worker that a signal to the whole process group has ended."""


@dataclass(frozen=True)
class Resume:
    """Where a training goes on: the last whole checkpoint (none: from the start), its step, and whether early stopping
    had already ended the training there."""

    checkpoint: Path | None
    step: int
    is_over: bool


NO_RESUME = Resume(None, 0, is_over=False)


def find_resume(folder: Path, patience: int | None) -> Resume:
    """Looks for the last whole checkpoint below `folder`; removes broken ones."""
    found = checkpoint.last_whole(folder)
    if found is None:
        return NO_RESUME
    return Resume(found, checkpoint.step_of(found), is_over(checkpoint.state_of(found)["log_history"], patience))


def what_is_left(plan: StepPlan, resume: Resume) -> StepPlan:
    """The plan the trainer gets: cut at the checkpoint where early stopping had ended the training (a kill came between
    that checkpoint and the sealed artifact), so that nothing is trained further."""
    return StepPlan(plan.steps[: resume.step], plan.per_epoch) if resume.is_over else plan


def prepare(
    base: Path,
    config: TrainConfig,
    method: Method,
    formats: Precision,
    *,
    seed: int,
    trust_remote_code: bool,
    on_cpu: bool = False,
) -> Any:
    """The base with what the method trains, seeded. on_cpu: it need not fit a GPU, as it is divided before it is used
    there."""
    from transformers import set_seed

    set_seed(seed)
    if method.base_bits:
        loaded = load_base(base, bits=method.base_bits, dtype=formats.dtype, trust_remote_code=trust_remote_code)
    else:
        loaded = load_model(base, dtype=formats.dtype, trust_remote_code=trust_remote_code)
    if on_cpu:
        loaded = loaded.to("cpu")
    settle(loaded, config)
    model = method.prepare(loaded)
    if formats.has_masters:
        precision.raise_trained(model)
    if config.compile:
        say(f"train: {compile_parts(model)} parts of layers are compiled in the first steps")
    return model


class Stopping(Protocol):
    """Knows the signal that stops a training, once one has come."""

    received: int | None


def run(trainer: PackedTrainer, resume: Resume, stop: Stopping, events: Events, config: TrainConfig) -> float:
    """Trains to the end, with the best weights in the model; returns this process's seconds.

    Raises Interrupted after a signal, TrainingDiverged, ResourceError. A whole checkpoint survives all of them.
    """
    folder = Path(str(trainer.args.output_dir))
    if resume.checkpoint:
        say(f"train: going on from {resume.checkpoint.name}")
        events.write("resume", checkpoint=resume.checkpoint.name)
    start = time.monotonic()
    try:
        noise = embedding_noise(trainer.model, config.neftune_alpha)
        with machine_faults(folder, config), noise, held_down(trainer.model, config):
            trainer.train(resume_from_checkpoint=str(resume.checkpoint) if resume.checkpoint else None)
    except TrainingDiverged as error:
        checkpoint.drop_since(folder, error.since)
        events.write("diverged", step=trainer.state.global_step, problem=str(error))
        _say_what_is_kept(folder)
        raise
    except ResourceError:
        _say_what_is_kept(folder)
        raise
    except RuntimeError as error:
        if stop.received is None or _WORKER not in str(error):
            raise
        raise _interrupted(stop.received, "while rows were fetched; the last checkpoint is whole") from None
    if stop.received is not None:
        raise _interrupted(stop.received, f"after step {trainer.state.global_step}; the checkpoint is saved")
    trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)  # takes autocast off its forward pass
    return time.monotonic() - start


def _interrupted(number: int, when: str) -> Interrupted:
    return Interrupted(f"stopped by a signal {when}", signal_number=number, fix="run the same command again to go on")


def _say_what_is_kept(folder: Path) -> None:
    kept = checkpoint.last_whole(folder)
    if kept:
        say(f"train: {kept.name} is kept in {folder}")


@contextmanager
def machine_faults(folder: Path, config: TrainConfig) -> Iterator[None]:
    """Turns a full disk and a full memory, however they are spelled, into a ResourceError with the next step."""
    try:
        with files.disk_errors(folder):
            yield
    except (RuntimeError, OSError, SafetensorError, MemoryError) as error:
        if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError) or _MEMORY.search(str(error)):
            raise OutOfMemory(
                "the training does not fit into memory",
                where="train.micro_batch_tokens",
                fix=f"halve train.micro_batch_tokens to {config.micro_batch_tokens // 2}"
                + ("" if config.gradient_checkpointing else ", or train.gradient_checkpointing=true"),
            ) from None
        if _DISK.search(str(error)):
            raise ResourceError(
                "the checkpoint cannot be written: the disk is full",
                where=str(folder),
                fix="free space, or `tunewright runs prune --keep 1`, then run again to go on from the last checkpoint",
            ) from None
        raise
