"""transformers' Trainer under our step plan, our micro-batches and our loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset, SequentialSampler, get_worker_info
from transformers import PrinterCallback, Trainer, TrainerCallback

from tunewright.core.scoring import Measured
from tunewright.models.loss import packed_loss, padded_loss
from tunewright.models.packing import micro_batches
from tunewright.models.tokens import Example
from tunewright.train import culprits
from tunewright.train.arguments import need_whole_steps, optimizer_of, training_arguments
from tunewright.train.config import VALIDATION_LOSS, TrainConfig
from tunewright.train.culprits import Loss
from tunewright.train.eight_bit import EightBitAdamW
from tunewright.train.generated import GeneratedScores
from tunewright.train.heap import BetweenSteps
from tunewright.train.plan import StepPlan
from tunewright.train.precision import Precision
from tunewright.train.record import OBJECTIVE, objectives
from tunewright.train.rows import shares_prefixes
from tunewright.train.sharding.quiet import settle_deepspeed
from tunewright.train.watch import LossWatch, evaluations_without_improvement, improvements
from tunewright.train.worker import settle_worker


class PlannedSteps(Dataset[dict[str, Any]]):
    """Item i: the rows of optimizer step i."""

    def __init__(self, examples: Sequence[Example], plan: StepPlan) -> None:
        self._examples, self._plan = examples, plan
        self._is_settled = False

    def __len__(self) -> int:
        return len(self._plan.steps)

    def __getitem__(self, step: int) -> dict[str, Any]:
        if not self._is_settled and get_worker_info() is not None:
            settle_worker()
            self._is_settled = True
        return {"examples": [self._examples[row] for row in self._plan.steps[step]]}


class PackedTrainer(Trainer):
    """One dataloader item is one optimizer step; its rows are computed in micro-batches that fit the memory.

    The loss is the mean over the step's trained tokens, so it does not depend on how the rows are grouped.
    """

    def __init__(
        self,
        *,
        settings: TrainConfig,
        validation: Sequence[Example],
        scores: GeneratedScores | None,
        levers: str,
        **rest: Any,
    ) -> None:
        super().__init__(data_collator=_only_item, optimizer_cls_and_kwargs=optimizer_of(settings), **rest)
        self._settings, self._validation, self._scores = settings, validation, scores
        self._levers = levers
        self.control: Any
        on_cpu = not torch.cuda.is_available() and settings.trim_memory is not False
        self._give_back: Callable[[], None] = BetweenSteps() if on_cpu else lambda: None
        self._watch: LossWatch | None = None
        self._updates: EightBitAdamW | None = None
        smoothing, share = settings.label_smoothing, settings.packing and shares_prefixes(settings)
        self._cut = partial(micro_batches, max_tokens=settings.micro_batch_tokens, share_prefix=share)
        self._validation_loss: Loss = padded_loss
        self._micro_loss: Loss = partial(padded_loss, label_smoothing=smoothing)
        if settings.packing:
            self._validation_loss = partial(packed_loss, share_prefix=settings.share_prefix)
            self._micro_loss = partial(packed_loss, share_prefix=share, label_smoothing=smoothing)

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)

    def create_optimizer(self, model: Any = None) -> Any:
        """transformers' hook."""
        optimizer = super().create_optimizer(model)
        if self._settings.update_in_backward and self._updates is None:
            self._updates = optimizer
            optimizer.update_in_backward()
        return optimizer

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """Backward over all micro-batches; returns the mean loss a trained token (detached scalar).

        Raises TrainingDiverged, before the optimizer touches a weight, for a loss or gradient that is no number.
        """
        model.train()
        self._give_back()
        examples: list[Example] = inputs["examples"]
        trained = sum(example.trained for example in examples)
        groups = self._cut(examples)
        losses = []
        with self._updates.learning() if self._updates else nullcontext():
            for group in groups:
                loss = self._micro_loss(model, group) / trained
                self.accelerator.backward(loss)
                losses.append(loss.detach())
        found = torch.stack(losses)
        self._check(model, groups, found.tolist())
        return found.sum()

    def _check(self, model: Any, groups: list[list[Example]], losses: list[float]) -> None:
        step = self.state.global_step + 1
        if self._watch is None:  # a resumed training goes on with the losses it has seen
            self._watch = LossWatch([row["loss"] for row in self.state.log_history if "loss" in row])
        if not all(map(math.isfinite, losses)):
            group = next(g for g, loss in zip(groups, losses, strict=True) if not math.isfinite(loss))
            rows = culprits.without_number(model, group, self._validation_loss)
            raise culprits.no_number("loss", step, rows, model, self._levers)
        if not self._has_good_gradient(model):
            rows = culprits.without_gradient(model, groups, self._micro_loss)
            raise culprits.no_number("gradient", step, rows, model, self._levers)
        if self._watch.add(sum(losses)):
            worst = culprits.worst(groups, losses)
            raise culprits.ran_away(self._watch, sum(losses), step, worst, self._levers)

    def _has_good_gradient(self, model: Any) -> bool:
        """With float16 the loss scaler skips a step whose scaled gradient overflows and halves the scale: a fault only
        where that has gone on until nothing is scaled up any more."""
        if self._updates is not None:
            return not self._updates.met_no_number
        scaler = self.accelerator.scaler
        return scaler.get_scale() >= 1 if scaler else culprits.has_finite_gradient(model)

    @torch.no_grad()
    def evaluate(self, *_: Any, **__: Any) -> dict[str, Any]:
        """Mean loss a trained token over the validation rows, and the metrics of generated answers.

        Raises TrainingDiverged when the loss is no number.
        """
        self.model.eval()
        mean, measured = self._mean_validation_loss(), self._measure_answers()
        self.log({"eval_loss": mean, **{f"eval_{found.metric}": found.value for found in measured}})
        self.state.log_history[-1][OBJECTIVE] = [self._objective(mean, measured), mean]  # not for trackers
        metrics = {"eval_loss": mean, OBJECTIVE: self._rank(), "scores": {m.metric: _shown(m) for m in measured}}
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _mean_validation_loss(self) -> float:
        groups = self._cut(self._validation)
        total = 0.0
        for group in groups:
            loss = float(self._validation_loss(self.model, group))
            if not math.isfinite(loss):
                rows = culprits.without_number(self.model, group, self._validation_loss)
                raise culprits.no_number("validation loss", self.state.global_step, rows, self.model, self._levers)
            total += loss
        return total / sum(example.trained for example in self._validation)

    def _measure_answers(self) -> list[Measured]:
        return self._scores(self.model) if self._scores else []

    def _rank(self) -> float:
        """One number for Trainer, which keeps the checkpoint with the lowest: below all before it where the last
        objective is better than all before it, else above them."""
        seen = objectives(self.state.log_history)
        return math.inf if evaluations_without_improvement(seen) else -float(improvements(seen))

    def _objective(self, loss: float, measured: Sequence[Measured]) -> float:
        if self._settings.objective == VALIDATION_LOSS:
            return loss
        found = next(m for m in measured if m.metric == self._settings.objective)
        return -found.value if found.higher_is_better else found.value

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not estimated: benchmarks measure."""
        return 0


def _shown(measured: Measured) -> dict[str, Any]:
    return {
        "value": measured.value,
        "higher_is_better": measured.higher_is_better,
        "n": len(measured.statistics),
    }


def _only_item(items: list[dict[str, Any]]) -> dict[str, Any]:
    assert len(items) == 1
    return items[0]


def make_trainer(
    model: Any,
    settings: TrainConfig,
    *,
    training: Sequence[Example],
    validation: Sequence[Example],
    plan: StepPlan,
    folder: Path,
    seed: int,
    precision: Precision,
    name: str = "train",
    callbacks: Sequence[TrainerCallback] = (),
    scores: GeneratedScores | None = None,
    build: Callable[..., PackedTrainer] = PackedTrainer,
) -> PackedTrainer:
    """The trainer, ready to run or to resume from a checkpoint in `folder`. name: what trackers call this run; build:
    the class, or one that shares the work with other ranks."""
    settle_deepspeed()
    if settings.update_in_backward:
        need_whole_steps(training, plan, settings)
    trainer = build(
        settings=settings,
        validation=validation,
        scores=scores,
        levers=culprits.levers_of(settings, precision.dtype),
        model=model,
        args=training_arguments(settings, plan, folder=folder, seed=seed, precision=precision, name=name),
        train_dataset=PlannedSteps(training, plan),
        eval_dataset=list(validation),
        callbacks=list(callbacks),
    )
    trainer.remove_callback(PrinterCallback)  # progress goes to stderr, stdout is for the result
    return trainer
