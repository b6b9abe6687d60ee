"""The `train:` section of the project file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tunewright.core.config import Section
from tunewright.core.registry import Chosen, PluginOptions
from tunewright.train.methods.options import METHODS, LoraOptions


class EarlyStopping(Section):
    """Ends training when a validation metric no longer improves."""

    metric: Literal["validation_loss"] = "validation_loss"
    patience: int = Field(default=5, ge=1)
    """Evaluations without improvement before training stops."""


class Sharding(Section):
    """How several GPUs share one model: DeepSpeed ZeRO."""

    name: Literal["zero"] = "zero"
    stage: Literal[1, 2, 3] = 2


class TrainConfig(Section):
    """Method, loop and stopping."""

    method: Annotated[PluginOptions, Chosen(METHODS)] = LoraOptions()
    epochs: float = Field(default=3, gt=0)
    learning_rate: float = Field(default=2e-4, gt=0, lt=1)
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_ratio: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps in which the learning rate rises."""
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    rows_per_step: int | None = Field(default=None, ge=1)
    """Conversations an optimizer step (the effective batch); default 32. Give this or tokens_per_step."""
    tokens_per_step: int | None = Field(default=None, ge=64)
    """Tokens an optimizer step, as near as whole rows allow."""
    micro_batch_tokens: int = Field(default=2048, ge=64)
    """Tokens computed at once: what bounds the memory. A longer row is a micro-batch of its own."""
    packing: bool = True
    """Rows of a micro-batch in one sequence, each attending only to itself; off: padded rows sorted by length."""
    share_prefix: bool = True
    """With packing: a start that the rows of a micro-batch share (a system turn) is computed once."""
    gradient_checkpointing: bool = False
    """Recomputes activations in the backward pass: less memory, about 16 % slower."""
    evaluations_per_epoch: int = Field(default=2, ge=1)
    """How often the validation loss is measured and a checkpoint is written."""
    early_stopping: EarlyStopping | None = EarlyStopping()
    keep_checkpoints: int = Field(default=2, ge=1)
    """Checkpoints kept while training, beside the best one; they are removed when the stage is sealed."""
    sharding: Sharding | None = None
    report_to: tuple[Literal["tensorboard", "mlflow", "wandb", "trackio"], ...] = ()
    """Trackers that transformers' Trainer reports to; none by default, nothing leaves the machine."""

    @model_validator(mode="after")
    def _one_batch_size(self) -> TrainConfig:
        if self.rows_per_step is not None and self.tokens_per_step is not None:
            raise ValueError("rows_per_step and tokens_per_step exclude each other; give exactly one")
        return self
