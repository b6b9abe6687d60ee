"""What happens beside the loop: events, progress with time left, whole checkpoints, stopping early or on a signal."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tunewright.core.events import Events, Progress, say
from tunewright.core.machine import peak_memory_bytes
from tunewright.train import checkpoint, record, watch
from tunewright.train.plan import StepPlan


class Reporting(TrainerCallback):
    """Writes steps and evaluations to events.jsonl and shows progress. `tokens`: tokens of each planned step."""

    def __init__(self, events: Events, plan: StepPlan, tokens: list[int]) -> None:
        self._events, self._plan, self._tokens = events, plan, tokens
        self._progress = Progress("training", len(plan.steps))
        self._start = time.monotonic()
        self._validation = ""
        self.seen = 0
        """Tokens trained by this process."""

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._progress = Progress("training", len(self._plan.steps) - state.global_step)
        self._start = time.monotonic()

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
        if "loss" in logs:
            self._step(state.global_step, logs)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: Any = None, **_: Any
    ) -> None:
        loss, scores = metrics["eval_loss"], metrics.get("scores", {})
        self._validation = f", validation {loss:.3f}"
        self._events.write(
            "validation", step=state.global_step, epoch=self._epoch(state.global_step), loss=loss, scores=scores
        )

    def _step(self, step: int, logs: dict[str, float]) -> None:
        self.seen += self._tokens[step - 1]
        speed = self.seen / (time.monotonic() - self._start)
        self._events.write(
            "step",
            step=step,
            epoch=self._epoch(step),
            loss=logs["loss"],
            learning_rate=logs.get("learning_rate"),
            grad_norm=logs.get("grad_norm"),
            tokens_per_second=round(speed, 1),
            peak_bytes=peak_bytes(),
        )
        note = f"loss {logs['loss']:.3f}{self._validation}, {speed:.0f} tokens/s, {peak_bytes() / 1e9:.1f} GB peak"
        self._progress.advance(note=note)

    def _epoch(self, step: int) -> float:
        return round(step / self._plan.per_epoch, 4)


class WholeCheckpoints(TrainerCallback):
    """Marks each checkpoint as whole once it is safely on disk, and only then removes older ones."""

    def __init__(self, newest: int) -> None:
        self._newest = newest

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        folder = Path(str(args.output_dir))
        checkpoint.mark_whole(folder / f"checkpoint-{state.global_step}")
        checkpoint.keep(folder, newest=self._newest)


class EarlyStop(TrainerCallback):
    """Stops after `patience` evaluations without improvement. It keeps no count: the trainer's history, which every
    checkpoint holds, has it (transformers' own callback starts from 0 after a resume)."""

    def __init__(self, patience: int) -> None:
        self._patience = patience

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if is_over(state.log_history, self._patience):
            control.should_training_stop = True


def is_over(history: list[dict[str, Any]], patience: int | None) -> bool:
    """Whether the trainer's history says that early stopping has ended the training."""
    if patience is None:
        return False
    return watch.evaluations_without_improvement(record.objectives(history)) >= patience


class WarnOfOverfitting(TrainerCallback):
    """Says it once, when it happens. `advise` makes the sentence."""

    def __init__(self, events: Events, advise: Callable[[watch.Overfitting], str]) -> None:
        self._events, self._advise = events, advise
        self._is_said = False

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._is_said = watch.ever_overfitted(*record.points(state.log_history))

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        found = watch.overfitting(*record.points(state.log_history))
        if found and not self._is_said:
            self._is_said = True
            sentence = self._advise(found)
            self._events.write("overfitting", step=state.global_step, best_step=found.best_step, advice=sentence)
            say(f"warning: {sentence}")


class StopOnSignal(TrainerCallback):
    """SIGINT or SIGTERM: finish the step, save, stop. A second signal ends at once.

    A SIGTERM to the whole process group ends the dataloader's workers as well. The running step has its rows already,
    so torch's complaint about them (its SIGCHLD handler raises in the middle of anything) is not wanted any more.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}
        self._on_child: Any = signal.SIG_DFL

    def __enter__(self) -> StopOnSignal:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._receive)
        self._on_child = signal.getsignal(signal.SIGCHLD)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.signal(signal.SIGCHLD, self._on_child)

    def _receive(self, number: int, _: FrameType | None) -> None:
        self.received = number
        for known, handler in self._before.items():
            signal.signal(known, handler)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.received is not None:
            control.should_save = True
            control.should_training_stop = True

    on_evaluate = on_step_end


def peak_bytes() -> int:
    """Most memory so far: of the GPU where there is one, else of this process."""
    return int(torch.cuda.max_memory_reserved()) if torch.cuda.is_available() else peak_memory_bytes()
