"""The `train:` section of the project file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tunewright.core.config import Section
from tunewright.core.registry import Chosen, PluginOptions
from tunewright.train.effect_options import EffectConfig
from tunewright.train.methods.options import METHODS, LoraOptions
from tunewright.train.sharding.options import SHARDINGS

VALIDATION_LOSS = "validation_loss"


class EarlyStopping(Section):
    """Ends training when a validation metric no longer improves; the weights kept are those of its best value."""

    metric: str = VALIDATION_LOSS
    """`validation_loss`, or a metric of generated answers such as `intent.accuracy` (with `evaluate_generated`)."""
    patience: int = Field(default=5, ge=1)
    """Evaluations without improvement before training stops."""


class GeneratedEvaluation(Section):
    """Answers that the model in training generates, scored by the metrics of `evaluate:`."""

    rows: int = Field(default=32, ge=1)
    """Validation rows that are answered, drawn with the project's seed."""
    max_new_tokens: int = Field(default=32, ge=1)
    """Longest generated answer."""


class TrainConfig(Section):
    """Method, loop and stopping."""

    method: Annotated[PluginOptions, Chosen(METHODS)] = LoraOptions()
    epochs: float | None = Field(default=None, gt=0)
    """Passes over the training rows; default 3. Give this or steps."""
    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps."""
    learning_rate: float = Field(default=2e-4, gt=0, lt=1)
    schedule: Literal["linear", "cosine", "cosine_with_min_lr", "warmup_stable_decay", "constant"] = "linear"
    """How the learning rate falls after the warm-up: to zero on a line or a cosine; on a cosine to `min_lr_ratio`; not
    at all until the last `decay_ratio` of the steps; never."""
    warmup_ratio: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps in which the learning rate rises."""
    min_lr_ratio: float = Field(default=0.1, ge=0, lt=1)
    """Where cosine_with_min_lr ends, as a share of the learning rate."""
    decay_ratio: float = Field(default=0.2, gt=0, lt=1)
    """Share of the steps in which warmup_stable_decay falls to zero, on a cosine."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Pulls trained matrices towards zero in each step, against overfitting; 0.1 is usual."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """A longer gradient is shortened to this length."""
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"
    """`adamw_8bit`: moments in 8 bits, and whole weights in bfloat16 rounded at random instead of float32 masters: 6
    bytes a trained weight instead of 16."""
    update_in_backward: bool = False
    """With adamw_8bit: each weight is updated when its gradient is there, so that gradients are never held together.
    Each step must be one micro-batch, and `max_grad_norm` shortens each weight's gradient by itself."""
    offload_optimizer: bool = False
    """With adamw_8bit: moments rest in the machine's memory: less of the GPU's, slower. CUDA only."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of each target's probability that is spread over all tokens, in training only; 0.1 is usual."""
    neftune_alpha: float = Field(default=0.0, ge=0)
    """Noise on the embeddings while training, against overfitting; 5 is usual, 0 turns it off."""
    rows_per_step: int | None = Field(default=None, ge=1)
    """Conversations an optimizer step (the effective batch); default 32. Give this or tokens_per_step."""
    tokens_per_step: int | None = Field(default=None, ge=64)
    """Tokens an optimizer step, as near as whole rows allow."""
    micro_batch_tokens: int = Field(default=2048, ge=64)
    """Tokens computed at once: what bounds the memory. A longer row is a micro-batch of its own."""
    packing: bool = True
    """Rows of a micro-batch in one sequence, each attending only to itself; off: padded rows sorted by length."""
    kernels: Literal["auto", "plain"] = "auto"
    """`auto`: our own norms, gated layers, attention and output loss where they are faster and proven equal (Llama-like
    models; docs/guides/scale.md); `plain`: the library's."""
    compile: bool = False
    """With `kernels: plain`: torch.compile for each layer's feed-forward part and norms, for families that have no
    kernels of ours. The first steps are slow, and a C++ compiler is needed (on a GPU Triton)."""
    share_prefix: bool = True
    """With packing: a start that the rows of a micro-batch share (a system turn) is computed once."""
    gradient_checkpointing: bool = False
    """Recomputes activations in the backward pass: less memory, about 16 % slower."""
    activation_offload: bool = False
    """Keeps activations in the machine's memory until the backward pass: less of the GPU's, slower. CUDA only."""
    trim_memory: bool | None = None
    """Gives freed memory back within a step (CPU): smaller, 5 to 30 % slower. By default with gradient_checkpointing
    only, and else between steps; `false`: never."""
    check_memory: bool = True
    """Refuses a training that cannot fit, before weights are loaded, and names the nearest that does."""
    step_down: bool = True
    """When memory runs out all the same, goes on from the last checkpoint with less at once, step by step: smaller
    micro-batches, checkpointing, offloading. The gradient stays the same; what was done is recorded."""
    evaluations_per_epoch: int = Field(default=2, ge=1)
    """How often the validation loss is measured and a checkpoint is written."""
    evaluate_generated: GeneratedEvaluation | None = None
    """With each validation also generate answers and score them; off by default."""
    early_stopping: EarlyStopping | None = EarlyStopping()
    effect: EffectConfig = EffectConfig()
    keep_checkpoints: int = Field(default=2, ge=1)
    """Newest checkpoints kept while training, beside the best one; they are removed when the stage is sealed."""
    dataloader_workers: int = Field(default=0, ge=0, le=64)
    """Processes that fetch rows. Rows are in memory, so 0 is fastest; the result is the same for any number."""
    sharding: Annotated[PluginOptions, Chosen(SHARDINGS)] | None = None
    """How several devices share the training: ddp, zero or fsdp; null trains on one. Start a process for each with
    `tunewright train PROJECT.yaml --launch N`."""
    report_to: tuple[Literal["tensorboard", "mlflow", "wandb", "trackio"], ...] = ()
    """Trackers that transformers' Trainer reports to; none by default, nothing leaves the machine."""

    @model_validator(mode="after")
    def _exactly_one(self) -> TrainConfig:
        if self.rows_per_step is not None and self.tokens_per_step is not None:
            raise ValueError("rows_per_step and tokens_per_step exclude each other; give exactly one")
        if self.epochs is not None and self.steps is not None:
            raise ValueError("epochs and steps exclude each other; give exactly one")
        for name in ("update_in_backward", "offload_optimizer"):
            if getattr(self, name) and self.optimizer != "adamw_8bit":
                raise ValueError(f"{name} needs optimizer: adamw_8bit")
        if self.compile and self.kernels != "plain":
            raise ValueError("compile: true needs kernels: plain; our own kernels are compiled already")
        if self.optimizer != "adamw" and self.sharding is not None:
            raise ValueError("optimizer: adamw_8bit and sharding exclude each other: sharding divides torch's AdamW")
        if self.objective != VALIDATION_LOSS and self.evaluate_generated is None:
            raise ValueError(
                f"early_stopping.metric '{self.objective}' needs generated answers: add `evaluate_generated: {{}}`, "
                f"or use {VALIDATION_LOSS}"
            )
        return self

    @property
    def objective(self) -> str:
        """The metric that decides which checkpoint is the best."""
        return self.early_stopping.metric if self.early_stopping else VALIDATION_LOSS
