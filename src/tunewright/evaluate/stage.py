"""The evaluate stage: opens data and train artifacts, examines base and tuned, seals scores and samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tunewright.core import files
from tunewright.core.chat import Conversation
from tunewright.core.events import say
from tunewright.core.promoted import TUNED
from tunewright.core.runs import Artifact, Output, Workspace, begin
from tunewright.core.scoring import Measured
from tunewright.evaluate import breakdown, compare, exam, foresight, gates, junit, outcome, power, promoted, uses
from tunewright.evaluate.config import EvaluateConfig
from tunewright.evaluate.exam import Exam, Taken
from tunewright.evaluate.labels import merged_labels
from tunewright.evaluate.metrics.intent import Intent
from tunewright.evaluate.of_model import named_files, of_model
from tunewright.evaluate.prompts import System
from tunewright.evaluate.rivals.contest import Contested, contest, seconds_per_answer, with_rivals
from tunewright.evaluate.rivals.rival import Entrant, Ground, entrants
from tunewright.evaluate.scorer import check_keys, intent_options
from tunewright.evaluate.systems.cache import AnswerCache, answer_cache, digest
from tunewright.evaluate.systems.local import LocalModel
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
    if named := named_files(config, workspace.root):
        settings["files"] = named
    inputs = [data, train, *([rival.artifact] if rival else [])]
    output = begin(workspace, "evaluate", settings, tuple(workspace.reference(artifact) for artifact in inputs))
    if isinstance(output, Artifact):
        return _required(output)
    try:
        prepared, training = _prepare(config, data, seed, root=workspace.root, max_length=model.max_length)
        stated = _state(output, prepared, data)
        session = _Session(output, prepared, model, answer_cache(workspace, on=config.cache))
        entered = session.entrants(training)
        taken = _examine_all(session, train, rival)
        contested = [session.contest(entrant) for entrant in entered]
        passed = _write(output, prepared, stated, taken, contested)
        return _required(output.seal(passed=passed))
    finally:
        output.release()


def _prepare(
    config: EvaluateConfig, data: Artifact, seed: int, *, root: Path, max_length: int | None
) -> tuple[Exam, tuple[Conversation, ...]]:
    """The exam, and the training rows that rivals learn from."""
    test = [Conversation.from_row(row) for row in data.jsonl("test.jsonl")]
    training = [Conversation.from_row(row) for row in data.jsonl("train.jsonl")]
    beside = of_model(config, test, training, seed=seed, root=root, max_length=max_length)
    prepared = replace(exam.prepare(config, test, training, seed=seed), of_model=beside)
    unscored = len(test) - sum(any(m.applies(row.metadata) for m in prepared.metrics) for row in test)
    left_out = f"; {unscored} more that no metric scores are left out" if unscored else ""
    say(f"evaluate: {len(prepared.rows)} of {len(test)} test rows, {len(prepared.labels)} labels{left_out}")
    options = intent_options(config)
    for spellings in merged_labels(options, [*training, *test]) if options else []:
        say(f"evaluate: these labels count as one after normalization: {', '.join(map(repr, spellings))}")
    return prepared, tuple(training)


def _state(output: Output, prepared: Exam, data: Artifact) -> dict[str, Any]:
    """What is said and stored before any model answers: what so many rows can show, and how often they were used."""
    config, workspace = prepared.config, output.workspace
    before = uses.earlier(workspace, data)
    assert prepared.of_model is not None
    known = foresight.known(
        config, prepared.rows, prepared.metrics, workspace=workspace, earlier=before, of_model=prepared.of_model
    )
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
    cache: AnswerCache

    @cached_property
    def folder(self) -> Path:
        """The base model's."""
        return source.resolve(self.model, self.output.workspace.root)

    @cached_property
    def dtype(self) -> Any:
        """The number format of every system here."""
        from tunewright.models.load import choose_dtype

        return choose_dtype(self.model.dtype)

    def open_base(self, name: str) -> LocalModel:
        """The base model under this name, loaded when it is asked something."""
        from tunewright.evaluate.systems import open as systems

        return systems.base(self.folder, self.model, dtype=self.dtype, cache=self.cache, name=name)

    def entrants(self, training: tuple[Conversation, ...]) -> list[Entrant]:
        """The rivals, proven before anything is asked."""
        if not self.prepared.config.rivals:
            return []
        root = self.output.workspace.root
        return entrants(Ground(self.prepared, training, self.open_base, self.cache, root))

    def examine(self, candidate: LocalModel) -> Taken:
        """One system takes the exam. The promoted model is asked as the tuned one is."""
        asked_as: System = "base" if candidate.name == "base" else "tuned"
        taken = exam.sit(self.prepared, candidate, asked_as=asked_as)
        if self.prepared.config.rivals and candidate.name == "tuned":
            prompts = exam.prompts_for(self.prepared, candidate, asked_as=asked_as)
            seconds = seconds_per_answer(candidate, prompts, exam.asking(self.prepared))
            taken = replace(taken, seconds_per_answer=seconds)
        self.output.events.write("examined", system=candidate.name, **taken.notes())
        candidate.close()
        assert self.prepared.of_model is not None
        more = self.prepared.of_model.measure_folder(candidate, home=self.folder, beside=self.output.path)
        return _with(taken, more)

    def contest(self, entrant: Entrant) -> Contested:
        """A rival takes the exam."""
        found = contest(self.prepared, entrant)
        self.output.events.write("contested", rival=found.name, **found.taken.notes())
        return found


def _examine_all(session: _Session, train: Artifact, rival: promoted.Promoted | None) -> dict[str, Taken]:
    from tunewright.evaluate.systems import open as systems
    from tunewright.models.tuned import model_info

    base = session.open_base("base")
    session.output.facts |= {
        "base_sha256": model_info(train).base_sha256,
        "tokenizer_sha256": files.sha256(session.folder / "tokenizer.json"),
        "chat_template_sha256": base.tokenizer.template.sha256,
        "long_references": _long_references(session.prepared, base.tokenizer),
    }
    taken = {"base": session.examine(base)}
    if rival:
        taken["promoted"] = session.examine(_promoted(session, rival))
    tuned = systems.tuned(train, session.model, session.folder, dtype=session.dtype, cache=session.cache)
    taken["tuned"] = session.examine(tuned)
    assert session.prepared.of_model is not None
    pairs = session.prepared.of_model.measure_pairs({name: one.samples for name, one in taken.items()})
    return {name: _with(one, pairs[name]) for name, one in taken.items()}


def _with(taken: Taken, more: Sequence[Measured]) -> Taken:
    """What was taken, with further numbers."""
    return replace(taken, measured=taken.measured | {one.metric: one for one in more})


def _promoted(session: _Session, rival: promoted.Promoted) -> LocalModel:
    """The promoted model, by the section of the project file that it was trained with."""
    from tunewright.evaluate.systems import open as systems

    own = promoted.own_model(rival, session.model)
    home, dtype = source.resolve(own, session.output.workspace.root), session.dtype
    tuned = systems.tuned(rival.train, own, home, dtype=dtype, name="promoted")
    identity = tuned.identity
    if rival.variant != TUNED and not any(rival.artifact.folder(rival.variant).glob("*.gguf")):
        content = digest([systems.content_sha256(rival.artifact, rival.variant), str(dtype)])
        identity = replace(identity, kind="quantized", sha256=content)
    return LocalModel(
        identity,
        tuned.tokenizer,
        lambda: promoted.load(rival, own, home, dtype=dtype),
        max_length=tuned.max_length,
        cache=session.cache,
    )


def _long_references(prepared: Exam, tokenizer: ChatTokenizer) -> int:
    """Right answers that are themselves too long for max_new_tokens."""
    limit = prepared.config.max_new_tokens
    return sum(len(tokenizer.encode(row.reference)) >= limit for row in prepared.rows)


def _write(
    output: Output,
    prepared: Exam,
    stated: dict[str, Any],
    taken: dict[str, Taken],
    contested: Sequence[Contested] = (),
) -> bool:
    """Writes scores, samples, confusion and junit.xml and sets the facts; whether all gates passed."""
    say("evaluate: scoring")
    _warn_of_cut_answers(taken)
    base, tuned, rival = taken["base"], taken["tuned"], taken.get("promoted")
    document = outcome.document(prepared, base, tuned, rival, rivals=contested) | stated
    metrics, seed = prepared.metrics, prepared.seed
    document["breakdown"] = breakdown.breakdown(prepared.config, metrics, base, tuned, seed=seed)
    decided = [gates.GateResult.model_validate(row) for row in document["gates"]]
    files.write_json(output.path / SCORES, document)
    row_scores = [
        compare.primary_row_scores(prepared.config, metrics, one.samples, one.measured) for one in (base, tuned)
    ]
    rows = compare.side_by_side(
        base.samples,
        tuned.samples,
        base_right=base.right,
        tuned_right=tuned.right,
        base_scores=row_scores[0],
        tuned_scores=row_scores[1],
        promoted=rival.samples if rival else None,
    )
    files.write_jsonl(output.path / SAMPLES, with_rivals(rows, contested))
    for intent in (metric for metric in prepared.metrics if isinstance(metric, Intent)):
        files.write_json(output.path / CONFUSION, intent.confusion(tuned.samples).model_dump())
    assert prepared.of_model is not None
    for name, listed in prepared.of_model.listed(list(taken)).items():
        files.write_json(output.path / name, listed)
    every = [*taken.values(), *(found.taken for found in contested)]
    seconds = round(sum(system.seconds for system in every), 2)
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


def _warn_of_cut_answers(taken: dict[str, Taken]) -> None:
    for name, system in taken.items():
        if system.cut_answers * 2 > len(system.samples):
            cut = f"{system.cut_answers} of {len(system.samples)} answers of the {name} model"
            say(f"evaluate: warning: {cut} were cut at evaluate.max_new_tokens; read some of them")


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
