"""The quantize stage: opens data and train artifacts, writes each variant, measures it, seals the table."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tunewright.core import files
from tunewright.core.chat import Conversation
from tunewright.core.events import say
from tunewright.core.registry import PluginOptions
from tunewright.core.runs import Artifact, Output, Workspace, begin
from tunewright.models import source
from tunewright.models.config import ModelConfig
from tunewright.models.load import choose_dtype
from tunewright.models.tokens import ChatTokenizer, Example
from tunewright.models.tuned import prove_merges
from tunewright.quantize import article, measure, rows, variants
from tunewright.quantize.config import QuantizeConfig, VariantOptions
from tunewright.quantize.loaded import Probe, TunedModel
from tunewright.quantize.measure import Exam, Result, Task
from tunewright.quantize.rows import Row
from tunewright.quantize.shapes import WeightShapes

TABLE = "table.json"
PROBE_TOKENS = 48
"""Tokens on which a variant's logits are compared with the 16-bit model's before the artifact is sealed."""


@dataclass(frozen=True)
class _Bench:
    """What every variant shares."""

    output: Output
    tokenizer: ChatTokenizer
    tuned: TunedModel
    shapes: WeightShapes
    probe: Probe
    task: Task
    calibration: list[Example]


def run(
    workspace: Workspace,
    config: QuantizeConfig,
    *,
    model: ModelConfig,
    seed: int,
    data: Artifact,
    train: Artifact,
    exam: Exam,
    evaluate: Artifact | None = None,
) -> Artifact:
    """Writes and measures every variant of the tuned model. `evaluate` is named as an input where `exam.judge` was made
    from it. Raises ArtifactError for an adapter that cannot be merged, QuantizeError when a variant cannot be built;
    then nothing is sealed. Does not pass when every variant is refused."""
    prove_merges(train)
    settings = {
        "quantize": config.model_dump(mode="json"),
        "model": model.model_dump(mode="json"),
        "seed": seed,
        "task": exam.name,
        "max_new_tokens": exam.max_new_tokens,
    }
    inputs = tuple(workspace.reference(artifact) for artifact in (data, train, evaluate) if artifact)
    output = begin(workspace, "quantize", settings, inputs)
    if isinstance(output, Artifact):
        return output
    start = time.monotonic()
    try:
        bench = _prepare(output, config, model=model, seed=seed, data=data, train=train, exam=exam)
        table, reference = _measure_all(bench, config.variants)
        files.write_json(output.path / TABLE, table)
        output.facts = _facts(bench, table, reference) | {"seconds": round(time.monotonic() - start, 2)}
        passed = any(row["accepted"] for row in table)
        if not passed:
            output.facts["failed"] = "every quantized variant is refused; table.json has the reasons"
        return output.seal(passed=passed)
    finally:
        output.release()


def _prepare(
    output: Output,
    config: QuantizeConfig,
    *,
    model: ModelConfig,
    seed: int,
    data: Artifact,
    train: Artifact,
    exam: Exam,
) -> _Bench:
    folder = source.resolve(model, output.workspace.root)
    shapes = variants.check_all(config.variants, folder, trust_remote_code=model.trust_remote_code)
    tokenizer = ChatTokenizer.load(folder)
    max_length = min(tokenizer.max_length, model.max_length or tokenizer.max_length)
    test = [Conversation.from_row(row) for row in data.jsonl("test.jsonl")]
    asked = measure.choose_rows(test, exam.applies, limit=config.task_rows, seed=seed)
    task = Task(
        rows=tuple(asked),
        prompts=tuple(measure.prompts_of(asked, tokenizer, room=max_length - exam.max_new_tokens)),
        text=tuple(measure.all_token_examples(test, tokenizer, tokens=config.perplexity_tokens, max_length=max_length)),
        exam=exam,
        latency_tokens=config.latency_tokens,
        latency_repeats=config.latency_repeats,
        batch_tokens=config.batch_tokens,
        seed=seed,
    )
    name = variants.reference_name(config.variants)
    tuned = TunedModel(train, model, folder, choose_dtype(model.dtype), name)
    calibration = _calibration(config, data, tokenizer, seed)
    first = tuned.open()
    probe = Probe.of(first, task.text[0].input_ids[:PROBE_TOKENS])
    tuned.give_back(first)
    return _Bench(output, tokenizer, tuned, shapes, probe, task, calibration)


def _calibration(config: QuantizeConfig, data: Artifact, tokenizer: ChatTokenizer, seed: int) -> list[Example]:
    if not any(variants.scheme_of(options).needs_calibration for options in config.variants):
        return []
    training = [Conversation.from_row(row) for row in data.jsonl("train.jsonl")]
    drawn = variants.calibration_examples(
        training, tokenizer, rows=config.calibration_rows, tokens=config.calibration_tokens, seed=seed
    )
    tokens = sum(len(example.input_ids) for example in drawn)
    say(f"quantize: calibrating on {len(drawn)} of {len(training)} training rows ({tokens} tokens), seed {seed}")
    return drawn


def _measure_all(bench: _Bench, chosen: Sequence[PluginOptions]) -> tuple[list[Row], Row]:
    """(rows in the order of the project file, the row of the 16-bit reference)."""
    name = variants.reference_name(chosen)
    stored = next((options for options in chosen if options.name == name), None)
    if stored is None:
        say(f"quantize: no 16-bit variant is listed, so {name} is measured in memory as the reference and not stored")
        with _timed(bench, "measured", name):
            reference = variants.measure_in_memory(bench.task, bench.tuned, bench.tokenizer, bench.probe)
    else:
        reference = _variant(bench, stored)
    first = _row(bench, stored or VariantOptions(name=name), reference, reference)
    table = []
    for options in chosen:
        if options is stored:
            table.append(first)
        else:
            table.append(_row(bench, options, _variant(bench, options), reference, first=first))
    return table, first


def _variant(bench: _Bench, options: PluginOptions) -> Result:
    """Writes one variant, loads it back, proves that it is the tuned model, and measures it."""
    scheme, target = variants.scheme_of(options), bench.output.path / options.name
    predicted = scheme.predicted_bytes(bench.shapes)
    say(f"quantize: writing {options.name} (about {files.human_bytes(predicted)})")
    with _timed(bench, "written", options.name) as facts:
        calibration = bench.calibration if scheme.needs_calibration else []
        facts |= variants.build(scheme, options.name, bench.tuned, target=target, calibration=calibration)
        facts |= {"bytes": measure.weight_bytes(target), "predicted_bytes": predicted}
        _say_group_size(options, facts)
    if options.name == bench.tuned.reference:
        bench.tuned.stored = target
    with _timed(bench, "measured", options.name) as facts:
        result = variants.measure_folder(
            bench.task, scheme, target, tuned=bench.tuned, tokenizer=bench.tokenizer, probe=bench.probe
        )
        facts |= result.seconds | {"logit_error": round(result.logit_error, 5), "engine_build": result.build}
    gc.collect()
    return result


def _say_group_size(options: PluginOptions, facts: dict[str, Any]) -> None:
    wanted, used = getattr(options, "group_size", None), facts.get("group_size")
    if used is not None:
        why = "as asked" if used == wanted else f"{wanted} does not divide every layer's width"
        say(f"quantize: {options.name} shares a scale among {used} weights ({why})")


def _row(bench: _Bench, options: PluginOptions, result: Result, reference: Result, *, first: Row | None = None) -> Row:
    """first: the reference's row, for the article's comparison."""
    assert isinstance(options, VariantOptions)
    scheme = variants.scheme_of(options)
    row = rows.table_row(
        options.name,
        result,
        reference,
        max_loss=options.max_loss,
        seed=bench.task.seed,
        note=rows.speed_note(result, reference, no_speed=scheme.no_speed),
    )
    target = article.target_bytes(scheme)
    line = article.beside(row, first or row, bits=scheme.bits, target=target)
    return row | {"predicted_bytes": scheme.predicted_bytes(bench.shapes), "target_bytes": target, "article": line}


@contextmanager
def _timed(bench: _Bench, event: str, name: str) -> Iterator[dict[str, Any]]:
    """Logs what the block took, with the facts it puts into the yielded dict."""
    facts: dict[str, Any] = {}
    start = time.monotonic()
    yield facts
    took = time.monotonic() - start
    bench.output.events.write(event, scheme=name, took_s=round(took, 3), **facts)
    say(f"quantize: {name} {event} in {took:.1f} s")


def _facts(bench: _Bench, table: list[Row], reference: Row) -> dict[str, Any]:
    return {
        "reference": reference,
        "accepted": [row["scheme"] for row in table if row["accepted"]],
        "refused": [row["scheme"] for row in table if not row["accepted"]],
        "task_rows": len(bench.task.rows),
        "perplexity_tokens": sum(example.trained for example in bench.task.text),
        "calibration_rows": len(bench.calibration),
        "calibration_tokens": sum(len(example.input_ids) for example in bench.calibration),
    }
