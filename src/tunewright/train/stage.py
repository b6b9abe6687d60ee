"""The train stage: opens the data artifact, trains, seals adapter or weights with their curve."""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from tunewright.core import files
from tunewright.core.events import read_events, say
from tunewright.core.files import human_bytes
from tunewright.core.runs import Artifact, Output, Workspace, begin
from tunewright.models import source, tuned
from tunewright.models.config import ModelConfig, ModelInfo
from tunewright.models.load import device
from tunewright.models.tokens import ChatTokenizer
from tunewright.train import callbacks, heap, loop, memory, precision, record, trackers, watch
from tunewright.train.config import TrainConfig
from tunewright.train.effect import Effect, Saved, measure_effect
from tunewright.train.generated import GeneratedExam
from tunewright.train.method import Method
from tunewright.train.methods.options import METHODS
from tunewright.train.precision import Precision
from tunewright.train.rows import Rows, load_rows, shares_prefixes
from tunewright.train.sharding import joint
from tunewright.train.sharding.trainer import CheckpointsTogether, ShardedTrainer, StopTogether
from tunewright.train.sharding.world import World, joined, launched
from tunewright.train.trainer import PackedTrainer, make_trainer

CHECKPOINTS = ".checkpoints"
CURVE = "curve.json"
FINISHED = ".finished.json"
"""The facts of a training that is saved but not sealed yet: a kill in between loses nothing."""


def run(
    workspace: Workspace,
    config: TrainConfig,
    *,
    model: ModelConfig,
    seed: int,
    data: Artifact,
    exam: GeneratedExam | None = None,
) -> Artifact:
    """Trains on the data artifact's training split and seals the result; resumes an unfinished one. `exam` scores
    generated answers where train.evaluate_generated is set. Does not pass where no effect is shown on held-out rows.

    Raises Interrupted after a signal (a checkpoint is saved first), TrainingDiverged, ConfigError, MissingExtraError,
    ArtifactError, ResourceError.
    """
    trackers.check(config.report_to)
    method: Method = METHODS.target(config.method.name)(config.method)
    formats = precision.choose(model.dtype, kind=method.kind, optimizer=config.optimizer)
    if config.sharding:
        formats = joint.formats_for(config.sharding, formats, method)
    settings = {"train": config.model_dump(mode="json"), "model": model.model_dump(mode="json"), "seed": seed}
    if exam and config.evaluate_generated:
        settings["generated"] = dict(exam.settings)
    inputs = (workspace.reference(data),)
    start = partial(begin, workspace, "train", settings, inputs, resumable=True)
    if config.sharding and not launched() and joint.finished(workspace, settings, inputs):
        return cast(Artifact, start())
    with joined(is_sharded=config.sharding is not None) as world:
        output = joint.begin(world, workspace, start)
        if isinstance(output, Artifact):
            return output
        try:
            if not world.share((output.path / FINISHED).exists()):
                with world.first_then_others():
                    base = source.resolve(model, workspace.root)
                _train(_Job(output, config, model, base, seed, method, formats, world), data, exam)
            return joint.seal(world, output, _seal)
        finally:
            output.release()


@dataclass(frozen=True)
class _Job:
    """One training: where it writes, its settings, the base model's folder, the method, the number formats, and the
    ranks that share it."""

    output: Output
    config: TrainConfig
    model: ModelConfig
    base: Path
    seed: int
    method: Method
    formats: Precision
    world: World


def _train(job: _Job, data: Artifact, exam: GeneratedExam | None) -> None:
    """Everything up to the saved model and its facts; leaves FINISHED behind. After the training the first rank works
    alone."""
    tokenizer = ChatTokenizer.load(job.base)
    longest = min(job.model.max_length or tokenizer.max_length, tokenizer.max_length)
    with job.world.first_then_others():  # which find the tokens in the cache
        rows = load_rows(
            job.output.workspace,
            job.config,
            data,
            tokenizer=tokenizer,
            tokenizer_from=job.base,
            max_length=longest - job.method.extra_positions,
            seed=job.seed,
            exam=exam,
        )
    job = _fit_memory(job, rows, longest)
    gc.collect()  # the trainer is gone by now: one model in memory at a time
    if not job.world.is_first:
        return
    found = _effect(job, rows)
    say(f"train: {found.text()}")
    failure = found.failure(required=job.config.effect.required)
    job.output.facts |= {"effect": found.facts(), **({"failed": failure} if failure else {})}
    files.write_json(job.output.path / FINISHED, job.output.facts)


def _fit_memory(job: _Job, rows: Rows, longest: int) -> _Job:
    """Trains with what memory allows; returns the job as it was trained."""
    steps = [[rows.training[row] for row in step] for step in rows.plan.steps]
    share, most = shares_prefixes(job.config), job.config.micro_batch_tokens
    heap.keep_few_products(heap.products_kept(steps, max_tokens=most, share_prefix=share))
    planned = memory.Planned(job.base, job.formats, steps, job.model.trust_remote_code, job.world.size)
    settings = memory.train_within(
        planned, job.config, lambda settings: _fit(replace(job, config=settings), rows, longest), job.output
    )
    return replace(job, config=settings)


def _fit(job: _Job, rows: Rows, longest: int) -> None:
    """Trains and saves. longest: tokens that the model takes, for the stages that come."""
    config, output, world = job.config, job.output, job.world
    strategy = joint.make(config.sharding, world, job.formats) if config.sharding else None
    if strategy:
        joint.prove_same_ranks(world, output.path / CHECKPOINTS, strategy.text)
    model = _prepared(job, on_cpu=strategy is not None and "trained" in strategy.divides)
    weights, tokens, computed = record.weights_of(model), rows.tokens(), rows.computed(config)
    if world.is_first:
        _announce(job, rows, weights, tokens=sum(tokens), computed=sum(computed))
    patience = config.early_stopping.patience if config.early_stopping else None
    resume = world.share(loop.find_resume(output.path / CHECKPOINTS, patience) if world.is_first else loop.NO_RESUME)
    reporting = callbacks.Reporting(output.events, rows.plan, tokens)
    plan = loop.what_is_left(rows.plan, resume)
    with callbacks.StopOnSignal() as stop:
        halt = StopTogether(stop, world) if strategy else stop
        trainer = make_trainer(
            model,
            config,
            training=rows.training,
            validation=rows.validation,
            plan=plan,
            folder=output.path / CHECKPOINTS,
            seed=job.seed,
            precision=job.formats,
            name=f"{output.workspace.project}-{output.path.name}",
            callbacks=[*([reporting] if world.is_first else []), *_callbacks(job, rows, resume.step), halt],
            scores=rows.scores,
            build=partial(ShardedTrainer, world=world, strategy=strategy, plan=plan, rows=rows.training)
            if strategy
            else PackedTrainer,
        )
        seconds = loop.run(trainer, resume, halt, output.events, config)
    steps = trainer.state.global_step
    peak = max(world.gather(callbacks.peak_bytes()))
    whole = strategy.full() if strategy and strategy.keeps_files else None
    del trainer
    if world.is_first:
        if whole is not None:
            del strategy, model, halt
            gc.collect()
            model = _prepared(job, on_cpu=True)
            joint.fill(model, whole)
        _save(job, rows, model, longest)
        output.facts |= {**weights, "computed_tokens": sum(computed[:steps]), "tokens": sum(tokens[:steps])}
        _record(job, rows, steps=steps, seconds=seconds, seen=reporting.seen, peak=peak)


def _prepared(job: _Job, *, on_cpu: bool = False) -> Any:
    trust = job.model.trust_remote_code
    return loop.prepare(
        job.base, job.config, job.method, job.formats, seed=job.seed, trust_remote_code=trust, on_cpu=on_cpu
    )


def _effect(job: _Job, rows: Rows) -> Effect:
    """Did it learn anything? Asked of the saved weights on held-out rows, as they are served."""
    saved = Saved(
        base=job.base,
        folder=_target(job),
        kind=job.method.kind,
        trust_remote_code=job.model.trust_remote_code,
        packed=job.config.packing,
        tokens_per_batch=job.config.micro_batch_tokens,
    )
    return measure_effect(
        saved,
        rows.held_out,
        rendered=rows.validation,
        dtype=job.formats.dtype,
        seed=job.seed,
        options=job.config.effect,
    )


def _seal(output: Output) -> Artifact:
    output.facts = json.loads((output.path / FINISHED).read_text(encoding="utf-8"))
    shutil.rmtree(output.path / CHECKPOINTS, ignore_errors=True)
    artifact = output.seal(passed="failed" not in output.facts)
    (artifact.path / FINISHED).unlink()
    return artifact


def _callbacks(job: _Job, rows: Rows, step: int) -> Sequence[Any]:
    """step: after which the training goes on."""
    config, output = job.config, job.output
    logs = output.path.parent.parent / trackers.TENSORBOARD / output.path.name
    whole = callbacks.WholeCheckpoints(config.keep_checkpoints)
    shared = [
        *([callbacks.EarlyStop(config.early_stopping.patience)] if config.early_stopping else []),
        CheckpointsTogether(whole, job.world) if config.sharding else whole,
    ]
    if not job.world.is_first:
        return shared
    warn = callbacks.WarnOfOverfitting(output.events, partial(_advice, job, rows))
    return [*shared, warn, *trackers.callbacks(config.report_to, logs, after_step=step)]


def _advice(job: _Job, rows: Rows, found: watch.Overfitting) -> str:
    return record.overfitting_advice(found, job.config, is_augmented=rows.is_augmented, per_epoch=rows.plan.per_epoch)


def _announce(job: _Job, rows: Rows, weights: dict[str, int], *, tokens: int, computed: int) -> None:
    trained, total = weights["trained_parameters"], weights["total_parameters"]
    config = job.config
    say(
        f"train: {config.method.name} on {device()}, {job.formats.sentence()}\n"
        f"train: {trained:,} of {total:,} weights ({trained / total:.2%}); {len(rows.training)} rows, "
        f"{len(rows.plan.steps)} steps, {tokens:,} tokens, {computed:,} computed after sharing prefixes, "
        f"micro-batches of up to {config.micro_batch_tokens} tokens"
    )
    if config.neftune_alpha and config.packing and config.share_prefix:
        say("train: shared prefixes are computed for each row, as every row gets its own noise (train.neftune_alpha)")


def _target(job: _Job) -> Path:
    return job.output.path / (tuned.ADAPTER if job.method.kind == "adapter" else tuned.WEIGHTS)


def _save(job: _Job, rows: Rows, model: Any, longest: int) -> None:
    """The trained weights in the format they are used in, and what later stages must know of them."""
    if job.formats.has_masters:
        precision.lower(model, job.formats.dtype)
    job.method.save(model, _target(job), base=job.model.path, revision=job.model.revision, tokenizer_from=job.base)
    info = ModelInfo(
        kind=job.method.kind,
        base=job.model.path,
        base_revision=job.model.revision,
        base_sha256=source.weights_sha256(job.base),
        method=job.config.method.name,
        dtype=precision.name_of(job.formats.dtype),
        bits=job.formats.dtype.itemsize * 8,
        chat_template_sha256=rows.tokenizer.template.sha256,
        max_length=longest,
    )
    files.write_json(job.output.path / tuned.INFO, info.model_dump())


def _record(job: _Job, rows: Rows, *, steps: int, seconds: float, seen: int, peak: int) -> None:
    """peak: bytes, of the rank that needed most."""
    events = read_events(job.output.path / "events.jsonl")
    curve = record.curve(events)
    files.write_json(job.output.path / CURVE, curve)
    best = record.best(curve, job.config.objective)
    found = watch.overfitting(*record.losses_of(curve))
    job.output.facts |= {
        "method": job.config.method.name,
        "dtype": precision.name_of(job.formats.dtype),
        "precision": job.formats.sentence(),
        "ranks": job.world.size,
        "seconds": round(seconds, 2),
        "resumed": sum(event["event"] == "resume" for event in events),
        "steps": steps,
        **best,
        "tokens_per_second": round(seen / seconds, 1) if seen else record.last_speed(events),
        "peak_memory_bytes": peak,
        "stopped_early": steps < len(rows.plan.steps),
        "overfitting": _advice(job, rows, found) if found else None,
    }
    kept = "" if best["best_metric"] == "validation_loss" else f", {best['best_metric']} {best['best_value']:.4f}"
    say(
        f"train: best at step {best['best_step']} of {steps}: validation loss {best['validation_loss']:.4f}{kept}; "
        f"{seconds:.0f} s, {human_bytes(peak)} peak memory"
    )
