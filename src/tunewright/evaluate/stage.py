"""The evaluate stage: opens data and train artifacts, examines base and tuned, seals scores and samples."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

from tunewright.core import files
from tunewright.core.chat import Conversation
from tunewright.core.events import say
from tunewright.core.runs import Artifact, Output, Workspace, begin
from tunewright.evaluate import compare, exam, gates
from tunewright.evaluate.config import EvaluateConfig
from tunewright.evaluate.exam import Exam, Taken
from tunewright.evaluate.labels import merged_labels
from tunewright.evaluate.prompts import System
from tunewright.evaluate.scorer import check_keys, intent_options
from tunewright.models import source
from tunewright.models.config import ModelConfig
from tunewright.models.tokens import ChatTokenizer

SCORES = "scores.json"
SAMPLES = "samples.jsonl"


def run(
    workspace: Workspace, config: EvaluateConfig, *, model: ModelConfig, seed: int, data: Artifact, train: Artifact
) -> Artifact:
    """Base against tuned on the test split of `data`. Raises GateError after sealing when a gate did not pass, and
    again when the finished artifact is asked for a second time."""
    from tunewright.models.tuned import prove

    check_keys(config)
    prove(train)
    settings = {"model": model.model_dump(mode="json"), "seed": seed, "evaluate": config.model_dump(mode="json")}
    output = begin(workspace, "evaluate", settings, (workspace.reference(data), workspace.reference(train)))
    if isinstance(output, Artifact):
        return _required(output)
    try:
        prepared = _prepare(config, data, seed)
        base, tuned = _examine_both(output, prepared, model, train)
        passed = _write(output, prepared, base, tuned)
        return _required(output.seal(passed=passed))
    finally:
        output.release()


def _prepare(config: EvaluateConfig, data: Artifact, seed: int) -> Exam:
    test = [Conversation.from_row(row) for row in data.jsonl("test.jsonl")]
    training = [Conversation.from_row(row) for row in data.jsonl("train.jsonl")]
    prepared = exam.prepare(config, test, training, seed=seed)
    unscored = len(test) - sum(any(m.applies(row.metadata) for m in prepared.metrics) for row in test)
    left_out = f"; {unscored} more that no metric scores are left out" if unscored else ""
    say(f"evaluate: {len(prepared.rows)} of {len(test)} test rows, {len(prepared.labels)} labels{left_out}")
    options = intent_options(config)
    for spellings in merged_labels(options, [*training, *test]) if options else []:
        say(f"evaluate: these labels count as one after normalization: {', '.join(map(repr, spellings))}")
    return prepared


def _examine_both(output: Output, prepared: Exam, model: ModelConfig, train: Artifact) -> tuple[Taken, Taken]:
    from tunewright.models.load import choose_dtype, load_model
    from tunewright.models.tuned import open_tuned

    folder = source.resolve(model, output.workspace.root)
    dtype = choose_dtype(model.dtype)
    tokenizer = ChatTokenizer.load(folder)
    max_length = min(tokenizer.max_length, model.max_length or tokenizer.max_length)

    def examine(system: System, load: Callable[[], Any]) -> Taken:
        from tunewright.models.load import for_inference

        say(f"evaluate: opening the {system} model")
        opened = for_inference(load())
        taken = exam.take(prepared, opened, tokenizer, system=system, max_length=max_length)
        output.events.write("examined", system=system, **taken.notes())
        return taken

    base = examine("base", lambda: load_model(folder, dtype=dtype, trust_remote_code=model.trust_remote_code))
    _free_memory()
    tuned = examine("tuned", lambda: open_tuned(train, model, folder, dtype=dtype))
    _free_memory()
    return base, tuned


def _free_memory() -> None:
    """Gives the last model's memory back before the next one is loaded."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _write(output: Output, prepared: Exam, base: Taken, tuned: Taken) -> bool:
    """Writes scores.json and samples.jsonl and sets the facts; whether all gates passed."""
    seed, config = prepared.seed, prepared.config
    say("evaluate: scoring")
    base_scores = compare.scores_of(base.measured, base.floors, seed=seed)
    tuned_scores = compare.scores_of(tuned.measured, tuned.floors, seed=seed)
    differences = compare.differences_of(tuned.measured, base.measured, seed=seed)
    decided = [
        gates.decide(gate, score=tuned_scores[key], base=base_scores[key], difference=differences[key])
        for gate in config.gates
        if "tuned" in gate.on and (key := gate.metric)
    ]
    document = compare.document(base_scores, tuned_scores, differences)
    document |= {
        "gates": [result.model_dump(mode="json") for result in decided],
        "primary": config.primary,
        "seed": seed,
        "labels": list(prepared.labels),
        "notes": {"base": base.notes(), "tuned": tuned.notes()},
    }
    files.write_json(output.path / SCORES, document)
    rows = compare.side_by_side(base.samples, tuned.samples, base_right=base.right, tuned_right=tuned.right)
    files.write_jsonl(output.path / SAMPLES, rows)
    primary = differences[config.primary]
    output.facts = {
        "primary": config.primary,
        "base": base_scores[config.primary].value,
        "tuned": tuned_scores[config.primary].value,
        "difference": primary.difference,
        "p": primary.p,
        "rows": len(prepared.rows),
        "seconds": round(base.seconds + tuned.seconds, 2),
    }
    return all(result.passed for result in decided)


def _required(artifact: Artifact) -> Artifact:
    results = [gates.GateResult.model_validate(row) for row in artifact.json(SCORES)["gates"]]
    gates.require(results, where=str(artifact.path))
    return artifact
