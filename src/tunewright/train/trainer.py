"""transformers' Trainer under our step plan, our micro-batches and our loss."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset, SequentialSampler
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from tunewright.models.loss import packed_loss, padded_loss
from tunewright.models.packing import micro_batches
from tunewright.models.tokens import Example
from tunewright.train.config import TrainConfig
from tunewright.train.plan import StepPlan


class PlannedSteps(Dataset[dict[str, Any]]):
    """Item i: the rows of optimizer step i."""

    def __init__(self, examples: Sequence[Example], plan: StepPlan) -> None:
        self._examples, self._plan = examples, plan

    def __len__(self) -> int:
        return len(self._plan.steps)

    def __getitem__(self, step: int) -> dict[str, Any]:
        return {"examples": [self._examples[row] for row in self._plan.steps[step]]}


class PackedTrainer(Trainer):
    """One dataloader item is one optimizer step; its rows are computed in micro-batches that fit the memory.

    The loss is the mean over the step's trained tokens, so it does not depend on how the rows are grouped.
    """

    def __init__(self, *, settings: TrainConfig, validation: Sequence[Example], **rest: Any) -> None:
        super().__init__(data_collator=_only_item, **rest)
        self._settings, self._validation = settings, validation
        self.control: Any
        packed = partial(packed_loss, share_prefix=settings.share_prefix)
        self._micro_loss = packed if settings.packing else padded_loss

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """Backward over all micro-batches; returns the mean loss a trained token (detached scalar)."""
        model.train()
        examples: list[Example] = inputs["examples"]
        trained = sum(example.trained for example in examples)
        total = torch.zeros((), device=self.args.device)
        for group in micro_batches(examples, max_tokens=self._settings.micro_batch_tokens):
            loss = self._micro_loss(model, group) / trained
            self.accelerator.backward(loss)
            total += loss.detach()
        return total

    @torch.no_grad()
    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Mean loss a trained token over the validation rows."""
        self.model.eval()
        groups = micro_batches(self._validation, max_tokens=self._settings.micro_batch_tokens)
        total = sum(float(self._micro_loss(self.model, group)) for group in groups)
        metrics = {"eval_loss": total / sum(example.trained for example in self._validation)}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not estimated: benchmarks measure."""
        return 0


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
    callbacks: list[TrainerCallback],
) -> PackedTrainer:
    """The trainer, ready to run or to resume from a checkpoint in `folder`."""
    arguments = _arguments(settings, plan, folder=folder, seed=seed)
    stopping = settings.early_stopping
    found = [*callbacks, *([EarlyStoppingCallback(stopping.patience)] if stopping else [])]
    trainer = PackedTrainer(
        settings=settings,
        validation=validation,
        model=model,
        args=arguments,
        train_dataset=PlannedSteps(training, plan),
        eval_dataset=list(validation),
        callbacks=found,
    )
    trainer.remove_callback(PrinterCallback)  # progress goes to stderr, stdout is for the result
    return trainer


def _arguments(settings: TrainConfig, plan: StepPlan, *, folder: Path, seed: int) -> TrainingArguments:
    total = len(plan.steps)
    every = max(1, min(total, round(plan.per_epoch / settings.evaluations_per_epoch)))
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=1,
        num_train_epochs=1,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="constant_with_warmup" if settings.schedule == "constant" else settings.schedule,
        warmup_steps=round(settings.warmup_ratio * total),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=settings.keep_checkpoints + 1,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        seed=seed,
        data_seed=seed,
        remove_unused_columns=False,
        label_names=[],
        optim="adamw_torch",
        use_cpu=not torch.cuda.is_available(),
        report_to=list(settings.report_to) or "none",
        disable_tqdm=True,
    )
