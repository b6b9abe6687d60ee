"""What happens beside the loop: events, progress with time left, whole checkpoints, a clean stop on a signal."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tunewright.core.events import Events, Progress
from tunewright.core.machine import peak_memory_bytes
from tunewright.train.checkpoint import mark_whole
from tunewright.train.plan import StepPlan


class Reporting(TrainerCallback):
    """Writes losses to events.jsonl and shows progress. `tokens`: tokens of each planned step."""

    def __init__(self, events: Events, plan: StepPlan, tokens: list[int]) -> None:
        self._events, self._plan, self._tokens = events, plan, tokens
        self._progress = Progress("training", len(plan.steps))
        self._seen = 0
        self._start = time.monotonic()
        self._loss = float("nan")
        self._validation = ""

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._progress = Progress("training", len(self._plan.steps) - state.global_step)
        self._start = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._seen += self._tokens[state.global_step - 1]
        speed = self._seen / (time.monotonic() - self._start)
        memory = peak_memory_bytes() / 1e9
        self._progress.advance(
            note=f"loss {self._loss:.3f}{self._validation}, {speed:.0f} tokens/s, {memory:.1f} GB peak"
        )

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
        epoch = round(state.global_step / self._plan.per_epoch, 4)
        if "loss" in logs:
            self._loss = logs["loss"]
            rate = logs.get("learning_rate")
            self._events.write("step", step=state.global_step, epoch=epoch, loss=logs["loss"], learning_rate=rate)
        if "eval_loss" in logs:
            self._validation = f", validation {logs['eval_loss']:.3f}"
            self._events.write("validation", step=state.global_step, epoch=epoch, loss=logs["eval_loss"])


class WholeCheckpoints(TrainerCallback):
    """Marks each checkpoint as whole after it is safely on disk."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        mark_whole(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}")


class StopOnSignal(TrainerCallback):
    """SIGINT or SIGTERM: finish the step, save, stop. A second signal ends at once."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopOnSignal:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _: FrameType | None) -> None:
        self.received = number
        for known, handler in self._before.items():
            signal.signal(known, handler)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.received is not None:
            control.should_save = True
            control.should_training_stop = True
