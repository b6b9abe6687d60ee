"""The train stage: opens the data artifact, trains, seals adapter or weights with their curve."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.core import files
from tunewright.core.chat import Conversation
from tunewright.core.errors import ArtifactError, ConfigError, Interrupted
from tunewright.core.events import read_events, say
from tunewright.core.files import human_bytes
from tunewright.core.machine import peak_memory_bytes
from tunewright.core.runs import Artifact, Output, Workspace, begin
from tunewright.models import source, tuned
from tunewright.models.config import ModelConfig, ModelInfo
from tunewright.models.load import choose_dtype, device, load_model
from tunewright.models.packing import ATTENTION, computed_tokens
from tunewright.models.token_cache import TokenCache, token_cache
from tunewright.models.tokens import ChatTokenizer, Example
from tunewright.train import record
from tunewright.train.callbacks import Reporting, StopOnSignal, WholeCheckpoints
from tunewright.train.checkpoint import last_whole
from tunewright.train.config import TrainConfig
from tunewright.train.method import Method
from tunewright.train.methods.options import METHODS
from tunewright.train.plan import StepPlan, plan_steps
from tunewright.train.trainer import PackedTrainer, make_trainer

CHECKPOINTS = ".checkpoints"
CURVE = "curve.json"


def run(workspace: Workspace, config: TrainConfig, *, model: ModelConfig, seed: int, data: Artifact) -> Artifact:
    """Trains on the data artifact's training split and seals the result; resumes an unfinished one.

    Raises Interrupted after a signal (a checkpoint is saved first), ConfigError, ArtifactError, ResourceError.
    """
    if config.sharding:
        raise ConfigError(
            "train.sharding needs several CUDA GPUs under a launcher, which this version does not start",
            fix="add train.sharding=null to train on one device",
        )
    settings = {"train": config.model_dump(mode="json"), "model": model.model_dump(mode="json"), "seed": seed}
    output = begin(workspace, "train", settings, (workspace.reference(data),), resumable=True)
    if isinstance(output, Artifact):
        return output
    try:
        return _train(_Job(output, config, model, source.resolve(model, workspace.root), seed), data)
    finally:
        output.release()


@dataclass(frozen=True)
class _Job:
    """One training: where it writes, its settings, the base model's folder."""

    output: Output
    config: TrainConfig
    model: ModelConfig
    base: Path
    seed: int


def _train(job: _Job, data: Artifact) -> Artifact:
    config, output = job.config, job.output
    tokenizer = ChatTokenizer.load(job.base)
    limit = min(job.model.max_length or tokenizer.max_length, tokenizer.max_length)
    cache = token_cache(output.workspace, tokenizer, job.base, max_length=limit, label="train")
    training, validation = (_examples(data, split, tokenizer, limit, cache) for split in ("train", "validation"))
    plan = plan_steps(
        training,
        epochs=config.epochs,
        rows_per_step=config.rows_per_step,
        tokens_per_step=config.tokens_per_step,
        seed=job.seed,
    )
    method: Method = METHODS.target(config.method.name)(config.method)
    model = _prepare(job, method)
    tokens = [sum(len(training[row].input_ids) for row in step) for step in plan.steps]
    weights = record.weights_of(model)
    computed = _computed(config, training, plan)
    _announce(config, weights, rows=len(training), steps=len(plan.steps), tokens=(sum(tokens), sum(computed)))
    with StopOnSignal() as stop:
        trainer = make_trainer(
            model,
            config,
            training=training,
            validation=validation,
            plan=plan,
            folder=output.path / CHECKPOINTS,
            seed=job.seed,
            callbacks=[Reporting(output.events, plan, tokens), WholeCheckpoints(), stop],
        )
        seconds = _loop(trainer, output)
    _check_not_stopped(stop, trainer)
    target = output.path / (tuned.ADAPTER if method.kind == "adapter" else tuned.WEIGHTS)
    method.save(model, target, base=job.model.path, revision=job.model.revision, tokenizer_from=job.base)
    info = _info(job, method, tokenizer, limit=limit, dtype=next(model.parameters()).dtype)
    files.write_json(output.path / tuned.INFO, info.model_dump())
    _record(job, trainer, plan, seconds=seconds, tokens=sum(tokens[: trainer.state.global_step]))
    output.facts |= {**weights, "computed_tokens": sum(computed[: trainer.state.global_step])}
    shutil.rmtree(output.path / CHECKPOINTS, ignore_errors=True)
    return output.seal()


def _computed(config: TrainConfig, training: list[Example], plan: StepPlan) -> list[int]:
    """Tokens each step computes."""
    share, limit = config.packing and config.share_prefix, config.micro_batch_tokens
    steps = ([training[row] for row in step] for step in plan.steps)
    return [computed_tokens(rows, max_tokens=limit, share_prefix=share) for rows in steps]


def _examples(data: Artifact, split: str, tokenizer: ChatTokenizer, limit: int, cache: TokenCache) -> list[Example]:
    def tokenized() -> list[Example]:
        conversations = (Conversation.from_row(row) for row in data.jsonl(f"{split}.jsonl"))
        return [e for conversation in conversations for e in tokenizer.examples(conversation, max_length=limit)]

    found = cache.examples(data.file(f"{split}.jsonl"), tokenized)
    if not found:
        raise ArtifactError(
            f"the {split} split has no trained row", where=str(data.path), fix="add rows, run data again"
        )
    return found


def _prepare(job: _Job, method: Method) -> Any:
    """The base with what the method trains, seeded."""
    from transformers import set_seed

    set_seed(job.seed)
    loaded = load_model(
        job.base,
        dtype=choose_dtype(job.model.dtype),
        trust_remote_code=job.model.trust_remote_code,
        attention=ATTENTION if job.config.packing else "sdpa",
    )
    loaded.config.use_cache = False
    if job.config.gradient_checkpointing:
        loaded.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        loaded.enable_input_require_grads()
    return method.prepare(loaded)


def _announce(config: TrainConfig, weights: dict[str, Any], *, rows: int, steps: int, tokens: tuple[int, int]) -> None:
    trained, total = weights["trained_parameters"], weights["total_parameters"]
    say(
        f"train: {config.method.name} in {weights['dtype']} on {device()}, {trained:,} of {total:,} weights "
        f"({trained / total:.2%}); {rows} rows, {steps} steps, {tokens[0]:,} tokens, "
        f"{tokens[1]:,} computed after sharing prefixes, micro-batches of up to {config.micro_batch_tokens} tokens"
    )


def _loop(trainer: PackedTrainer, output: Output) -> float:
    """Trains, from the last whole checkpoint if there is one; returns this process's seconds."""
    checkpoint = last_whole(output.path / CHECKPOINTS)
    if checkpoint:
        say(f"train: going on from {checkpoint.name}")
        output.events.write("resume", checkpoint=checkpoint.name)
    start = time.monotonic()
    with files.disk_errors(output.path):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return time.monotonic() - start


def _check_not_stopped(stop: StopOnSignal, trainer: PackedTrainer) -> None:
    if stop.received is not None:
        raise Interrupted(
            f"stopped by a signal after step {trainer.state.global_step}; the checkpoint is saved",
            signal_number=stop.received,
            fix="run the same command again to go on",
        )


def _info(job: _Job, method: Method, tokenizer: ChatTokenizer, *, limit: int, dtype: Any) -> ModelInfo:
    return ModelInfo(
        kind=method.kind,
        base=job.model.path,
        base_revision=job.model.revision,
        base_sha256=source.weights_sha256(job.base),
        method=job.config.method.name,
        dtype=str(dtype).removeprefix("torch."),
        bits=dtype.itemsize * 8,
        chat_template_sha256=tokenizer.template.sha256,
        max_length=limit,
    )


def _record(job: _Job, trainer: PackedTrainer, plan: StepPlan, *, seconds: float, tokens: int) -> None:
    losses = record.curve(read_events(job.output.path / "events.jsonl"))
    files.write_json(job.output.path / CURVE, losses)
    best, steps, peak = record.best_validation(losses), trainer.state.global_step, peak_memory_bytes()
    job.output.facts |= {
        "method": job.config.method.name,
        "seconds": round(seconds, 2),
        "steps": steps,
        "best_step": best["step"],
        "validation_loss": best["loss"],
        "tokens": tokens,
        "tokens_per_second": round(tokens / seconds, 1),
        "peak_memory_bytes": peak,
        "stopped_early": steps < len(plan.steps),
    }
    say(
        f"train: best validation loss {best['loss']:.4f} at step {best['step']} of {steps}, "
        f"{seconds:.0f} s, {human_bytes(peak)} peak memory"
    )
