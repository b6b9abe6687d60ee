"""What transformers' Trainer is told, from the `train:` section."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from tunewright.core.errors import ConfigError
from tunewright.models.packing import micro_batches
from tunewright.models.tokens import Example
from tunewright.train import trackers
from tunewright.train.config import TrainConfig
from tunewright.train.eight_bit import EightBitAdamW
from tunewright.train.plan import StepPlan
from tunewright.train.precision import Precision
from tunewright.train.record import OBJECTIVE
from tunewright.train.rows import shares_prefixes

SCHEDULES = {"constant": "constant_with_warmup"}
"""Names that transformers calls differently."""


def optimizer_of(settings: TrainConfig) -> tuple[Any, dict[str, Any]] | None:
    """As transformers takes an optimizer; None: its AdamW."""
    if settings.optimizer == "adamw":
        return None
    return EightBitAdamW, {
        "lr": settings.learning_rate,
        "max_norm": settings.max_grad_norm,
        "offload": settings.offload_optimizer,
    }


def need_whole_steps(training: Sequence[Example], plan: StepPlan, settings: TrainConfig) -> None:
    """Raises ConfigError where a step has several micro-batches: their gradients would have to be kept."""
    share = settings.packing and shares_prefixes(settings)
    steps = [[training[row] for row in step] for step in plan.steps]
    cut = partial(micro_batches, max_tokens=settings.micro_batch_tokens, share_prefix=share)
    sizes = [sum(len(row.input_ids) for row in step) for step in steps if len(cut(step)) > 1]
    if sizes:
        raise ConfigError(
            f"train.update_in_backward needs each step to be one micro-batch; the largest has {max(sizes):,} tokens",
            where="train.micro_batch_tokens",
            fix=f"set train.micro_batch_tokens={max(sizes)}, or fewer train.rows_per_step",
        )


def evaluation_interval(settings: TrainConfig, plan: StepPlan) -> int:
    """Optimizer steps between two evaluations (and checkpoints)."""
    return max(1, min(len(plan.steps), round(plan.per_epoch / settings.evaluations_per_epoch)))


def training_arguments(
    settings: TrainConfig, plan: StepPlan, *, folder: Path, seed: int, precision: Precision, name: str
) -> TrainingArguments:
    """name: what trackers call this run."""
    total = len(plan.steps)
    every = evaluation_interval(settings, plan)
    return TrainingArguments(
        output_dir=str(folder),
        run_name=name,
        per_device_train_batch_size=1,
        num_train_epochs=1,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=SCHEDULES.get(settings.schedule, settings.schedule),
        lr_scheduler_kwargs=_schedule_options(settings, total),
        warmup_steps=round(settings.warmup_ratio * total),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        bf16=precision.autocast == "bf16",
        fp16=precision.autocast == "fp16",
        logging_steps=1,
        logging_nan_inf_filter=False,
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=None,  # callbacks.WholeCheckpoints removes old ones, after the new one is whole
        load_best_model_at_end=True,
        metric_for_best_model=OBJECTIVE,
        greater_is_better=False,
        seed=seed,
        data_seed=seed,
        dataloader_num_workers=settings.dataloader_workers,
        remove_unused_columns=False,
        label_names=[],
        optim="adamw_torch",
        use_cpu=not torch.cuda.is_available(),
        report_to=trackers.by_trainer(settings.report_to) or "none",
        disable_tqdm=True,
    )


def _schedule_options(settings: TrainConfig, total: int) -> dict[str, float]:
    if settings.schedule == "cosine_with_min_lr":
        return {"min_lr_rate": settings.min_lr_ratio}
    if settings.schedule == "warmup_stable_decay":
        return {"num_decay_steps": max(1, round(settings.decay_ratio * total))}
    return {}
