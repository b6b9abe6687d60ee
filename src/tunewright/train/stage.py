"""The train stage: opens the data artifact, trains, seals adapter or weights with their curve."""

from __future__ import annotations

import shutil
import time
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
from tunewright.models.packing import ATTENTION
from tunewright.models.tokens import ChatTokenizer, Example
from tunewright.train.callbacks import Reporting, StopOnSignal, WholeCheckpoints
from tunewright.train.checkpoint import last_whole
from tunewright.train.config import METHODS, TrainConfig
from tunewright.train.method import Method
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
            fix="remove train.sharding to train on one device",
        )
    settings = {"train": config.model_dump(mode="json"), "model": model.model_dump(mode="json"), "seed": seed}
    output = begin(workspace, "train", settings, (workspace.reference(data),), resumable=True)
    if isinstance(output, Artifact):
        return output
    try:
        return _train(output, config, model=model, seed=seed, data=data)
    finally:
        output.release()


def _train(output: Output, config: TrainConfig, *, model: ModelConfig, seed: int, data: Artifact) -> Artifact:
    base = source.resolve(model, output.workspace.root)
    tokenizer = ChatTokenizer.load(base)
    limit = min(model.max_length or tokenizer.max_length, tokenizer.max_length)
    training, validation = (_examples(data, split, tokenizer, limit) for split in ("train", "validation"))
    plan = plan_steps(
        training,
        epochs=config.epochs,
        rows_per_step=config.rows_per_step,
        tokens_per_step=config.tokens_per_step,
        seed=seed,
    )
    method: Method = METHODS.target(config.method.name)(config.method)
    trained, trainer_model = _prepare(method, config, model, base, seed)
    tokens = [sum(len(training[row].input_ids) for row in step) for step in plan.steps]
    _announce(config, trainer_model, training, plan, tokens)
    with StopOnSignal() as stop:
        trainer = make_trainer(
            trainer_model,
            config,
            training=training,
            validation=validation,
            plan=plan,
            folder=output.path / CHECKPOINTS,
            seed=seed,
            callbacks=[Reporting(output.events, plan, tokens), WholeCheckpoints(), stop],
        )
        seconds = _loop(trainer, output)
    if stop.received is not None:
        raise Interrupted(
            f"stopped by a signal after step {trainer.state.global_step}; the checkpoint is saved",
            signal_number=stop.received,
            fix="run the same command again to go on",
        )
    target = output.path / (tuned.ADAPTER if method.kind == "adapter" else tuned.WEIGHTS)
    method.save(trained, target, base=model.path, revision=model.revision, tokenizer_from=base)
    info = _info(method, config, model, base, tokenizer, limit, trained)
    files.write_json(output.path / tuned.INFO, info.model_dump())
    _record(output, trainer, config, plan, tokens, seconds=seconds)
    shutil.rmtree(output.path / CHECKPOINTS, ignore_errors=True)
    return output.seal()


def _examples(data: Artifact, split: str, tokenizer: ChatTokenizer, limit: int) -> list[Example]:
    conversations = [Conversation.from_row(row) for row in data.jsonl(f"{split}.jsonl")]
    found = [e for conversation in conversations for e in tokenizer.examples(conversation, max_length=limit)]
    if not found:
        raise ArtifactError(
            f"the {split} split has no trained row", where=str(data.path), fix="add rows, run data again"
        )
    return found


def _prepare(method: Method, config: TrainConfig, model: ModelConfig, base: Path, seed: int) -> tuple[Any, Any]:
    """(model that `method.save` writes, model that is trained): the same object for every method so far."""
    from transformers import set_seed

    set_seed(seed)
    loaded = load_model(
        base,
        dtype=choose_dtype(model.dtype),
        trust_remote_code=model.trust_remote_code,
        attention=ATTENTION if config.packing else "sdpa",
    )
    loaded.config.use_cache = False
    if config.gradient_checkpointing:
        loaded.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        loaded.enable_input_require_grads()
    prepared = method.prepare(loaded)
    return prepared, prepared


def _announce(config: TrainConfig, model: Any, training: list[Example], plan: StepPlan, tokens: list[int]) -> None:
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    say(
        f"train: {config.method.name} in {dtype} on {device()}, {trained:,} of {total:,} weights "
        f"({trained / total:.2%}); {len(training)} rows, {len(plan.steps)} steps, {sum(tokens):,} tokens, "
        f"micro-batches of up to {config.micro_batch_tokens} tokens"
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


def _info(
    method: Method,
    config: TrainConfig,
    model: ModelConfig,
    base: Path,
    tokenizer: ChatTokenizer,
    limit: int,
    trained: Any,
) -> ModelInfo:
    dtype = next(trained.parameters()).dtype
    return ModelInfo(
        kind=method.kind,
        base=model.path,
        base_revision=model.revision,
        base_sha256=source.weights_sha256(base),
        method=config.method.name,
        dtype=str(dtype).removeprefix("torch."),
        bits=dtype.itemsize * 8,
        chat_template_sha256=tokenizer.template.sha256,
        max_length=limit,
    )


def _record(
    output: Output, trainer: PackedTrainer, config: TrainConfig, plan: StepPlan, tokens: list[int], *, seconds: float
) -> None:
    rows = read_events(output.path / "events.jsonl")
    curve = {
        name: list({row["step"]: _point(row) for row in rows if row["event"] == event}.values())
        for name, event in (("train", "step"), ("validation", "validation"))
    }
    files.write_json(output.path / CURVE, curve)
    state, model = trainer.state, trainer.model
    best = min(curve["validation"], key=lambda point: point["loss"])
    seen = sum(tokens[: state.global_step])
    output.facts |= {
        "method": config.method.name,
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "total_parameters": sum(p.numel() for p in model.parameters()),
        "seconds": round(seconds, 2),
        "steps": state.global_step,
        "best_step": best["step"],
        "validation_loss": best["loss"],
        "tokens": seen,
        "tokens_per_second": round(seen / seconds, 1),
        "peak_memory_bytes": peak_memory_bytes(),
        "stopped_early": state.global_step < len(plan.steps),
    }
    say(
        f"train: best validation loss {best['loss']:.4f} at step {best['step']} of {state.global_step}, "
        f"{seconds:.0f} s, {human_bytes(peak_memory_bytes())} peak memory"
    )


def _point(row: dict[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in ("step", "epoch", "loss", "learning_rate") if row.get(key) is not None}
