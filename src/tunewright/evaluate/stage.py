"""The evaluate stage: opens data and train artifacts, examines base and tuned, seals scores and samples."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tunewright.core import files
from tunewright.core.chat import Conversation
from tunewright.core.events import say
from tunewright.core.runs import Artifact, Output, Workspace, begin
from tunewright.evaluate import compare, exam, foresight, gates, junit, outcome, power, promoted, uses
from tunewright.evaluate.config import EvaluateConfig
from tunewright.evaluate.exam import Exam, Taken
from tunewright.evaluate.labels import merged_labels
from tunewright.evaluate.metrics.intent import Intent
from tunewright.evaluate.prompts import System
from tunewright.evaluate.scorer import check_keys, intent_options
from tunewright.models import source
from tunewright.models.config import ModelConfig
from tunewright.models.tokens import ChatTokenizer

SCORES = "scores.json"
SAMPLES = "samples.jsonl"
POWER = "power.json"
JUNIT = "junit.xml"
CONFUSION = "confusion.json"


def run(
    workspace: Workspace, config: EvaluateConfig, *, model: ModelConfig, seed: int, data: Artifact, train: Artifact
) -> Artifact:
    """Base against tuned on the test split of `data`, and against the promoted model where a gate names it. Raises
    ConfigError before anything is answered when so few rows cannot decide a gate, GateError after sealing when a gate
    did not pass, and again when the finished artifact is asked for a second time."""
    from tunewright.models.tuned import prove

    check_keys(config)
    prove(train)
    rival = promoted.find(workspace, config)
    settings = {"model": model.model_dump(mode="json"), "seed": seed, "evaluate": config.model_dump(mode="json")}
    inputs = [data, train, *([rival.artifact] if rival else [])]
    output = begin(workspace, "evaluate", settings, tuple(workspace.reference(artifact) for artifact in inputs))
    if isinstance(output, Artifact):
        return _required(output)
    try:
        prepared = _prepare(config, data, seed)
        stated = _state(output, prepared, data)
        taken = _examine_all(_Session(output, prepared, model), train, rival)
        passed = _write(output, prepared, stated, taken)
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


def _state(output: Output, prepared: Exam, data: Artifact) -> dict[str, Any]:
    """What is said and stored before any model answers: what so many rows can show, and how often they were used."""
    config, workspace = prepared.config, output.workspace
    before = uses.earlier(workspace, data)
    known = foresight.known(config, prepared.rows, prepared.metrics, workspace=workspace, earlier=before)
    statements = [power.statement(entry) for entry in known]
    undecidable = power.check(config.gates, known, on="tuned")
    stated = {
        "power": [statement.model_dump() for statement in statements],
        "undecidable": undecidable,
        "uses": {"earlier": len(before), "test_sha256": uses.test_sha256(data)},
    }
    gated = {config.primary, *(gate.metric for gate in config.gates)}
    for statement in (statement for statement in statements if statement.metric in gated):
        say(f"evaluate: {statement.text()}")
    for sentence in (*(f"warning: {warning}" for warning in undecidable), uses.sentence(len(before))):
        say(f"evaluate: {sentence}")
    files.write_json(output.path / POWER, stated)
    return stated


@dataclass(frozen=True)
class _Session:
    """What every system of one evaluation shares."""

    output: Output
    prepared: Exam
    model: ModelConfig

    def examine(self, name: str, tokenizer: ChatTokenizer, load: Callable[[], Any]) -> Taken:
        """One system takes the exam. The promoted model is asked as the tuned one is."""
        from tunewright.models.load import for_inference
        from tunewright.models.prefix import taken_positions

        say(f"evaluate: opening the {name} model")
        opened = for_inference(load())
        room = min(tokenizer.max_length, self.model.max_length or tokenizer.max_length) - taken_positions(opened)
        system: System = "base" if name == "base" else "tuned"
        taken = exam.take(self.prepared, opened, tokenizer, system=system, max_length=room)
        self.output.events.write("examined", system=name, **taken.notes())
        del opened
        _free_memory()
        return taken


def _examine_all(session: _Session, train: Artifact, rival: promoted.Promoted | None) -> dict[str, Taken]:
    from tunewright.models.load import choose_dtype, load_model
    from tunewright.models.tuned import model_info, open_tuned

    model, root = session.model, session.output.workspace.root
    folder, dtype = source.resolve(model, root), choose_dtype(model.dtype)
    tokenizer, trust = ChatTokenizer.load(folder), model.trust_remote_code
    session.output.facts |= {
        "base_sha256": model_info(train).base_sha256,
        "tokenizer_sha256": files.sha256(folder / "tokenizer.json"),
        "chat_template_sha256": tokenizer.template.sha256,
        "long_references": _long_references(session.prepared, tokenizer),
    }
    taken = {
        "base": session.examine("base", tokenizer, lambda: load_model(folder, dtype=dtype, trust_remote_code=trust))
    }
    if rival:
        own = promoted.own_model(rival, model)
        home = source.resolve(own, root)
        taken["promoted"] = session.examine(
            "promoted", ChatTokenizer.load(home), lambda: promoted.load(rival, own, home, dtype=dtype)
        )
    taken["tuned"] = session.examine("tuned", tokenizer, lambda: open_tuned(train, model, folder, dtype=dtype))
    return taken


def _long_references(prepared: Exam, tokenizer: ChatTokenizer) -> int:
    """Right answers that are themselves too long for max_new_tokens."""
    limit = prepared.config.max_new_tokens
    return sum(len(tokenizer.encode(row.reference)) >= limit for row in prepared.rows)


def _free_memory() -> None:
    """Gives the last model's memory back before the next one is loaded."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _write(output: Output, prepared: Exam, stated: dict[str, Any], taken: dict[str, Taken]) -> bool:
    """Writes scores, samples, confusion and junit.xml and sets the facts; whether all gates passed."""
    say("evaluate: scoring")
    base, tuned, rival = taken["base"], taken["tuned"], taken.get("promoted")
    document = outcome.document(prepared, base, tuned, rival) | stated
    decided = [gates.GateResult.model_validate(row) for row in document["gates"]]
    files.write_json(output.path / SCORES, document)
    rows = compare.side_by_side(
        base.samples,
        tuned.samples,
        base_right=base.right,
        tuned_right=tuned.right,
        promoted=rival.samples if rival else None,
    )
    files.write_jsonl(output.path / SAMPLES, rows)
    for intent in (metric for metric in prepared.metrics if isinstance(metric, Intent)):
        files.write_json(output.path / CONFUSION, intent.confusion(tuned.samples).model_dump())
    seconds = round(sum(system.seconds for system in taken.values()), 2)
    facts = _facts(document, prepared)
    output.facts |= facts | {
        "seconds": seconds,
        "cut_answers": tuned.cut_answers,
        uses.FACT: stated["uses"]["test_sha256"],
        "earlier_uses": stated["uses"]["earlier"],
    }
    suite = f"{output.workspace.project} evaluate"
    cases = junit.cases(decided)
    files.write_text(output.path / JUNIT, junit.document(suite, cases, seconds=seconds, properties=facts))
    return all(result.passed for result in decided)


def _facts(document: dict[str, Any], prepared: Exam) -> dict[str, Any]:
    primary = document["primary"]
    return {
        "primary": primary,
        "base": document["base"][primary]["value"],
        "tuned": document["tuned"][primary]["value"],
        "difference": document["paired"][primary]["difference"],
        "p": document["paired"][primary]["p"],
        "rows": len(prepared.rows),
    }


def _required(artifact: Artifact) -> Artifact:
    results = [gates.GateResult.model_validate(row) for row in artifact.json(SCORES)["gates"]]
    gates.require(results, folder=artifact.path)
    return artifact
