"""Is it proven to be good enough? The evaluation of this very artifact, its gates, and the numbers behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunewright.core import manifest
from tunewright.core.chat import Conversation
from tunewright.core.errors import ArtifactError
from tunewright.core.promoted import TUNED, Current
from tunewright.core.runs import Artifact, Workspace
from tunewright.core.scoring import Sample
from tunewright.evaluate import labels, outcome, quantized, scorer
from tunewright.evaluate.config import EvaluateConfig
from tunewright.evaluate.gates import GateResult
from tunewright.evaluate.metrics.toxicity_options import ToxicityOptions
from tunewright.project import ProjectConfig
from tunewright.release.candidate import Candidate

SCORES, SAMPLES = "scores.json", "samples.jsonl"
SAME = 1e-6
"""Scores computed again may differ by rounding, not by more."""
MOST_CUT = 0.5
"""Share of answers without an end token from which on a model counts as one that cannot stop."""


def evaluations(workspace: Workspace, train: Artifact) -> tuple[list[Artifact], str]:
    """(evaluations of exactly this train artifact, oldest first; why there is none)."""
    mark, found, other = train.manifest_sha256, [], ""
    for path in workspace.directories("evaluate"):
        try:
            artifact = Artifact.open(path)
        except ArtifactError:  # unfinished or damaged: proves nothing
            continue
        for reference in artifact.manifest.inputs:
            if reference.sha256 == mark:
                found.append(artifact)
            elif workspace.resolve(reference) == train.path.resolve():
                other = (
                    f"{workspace.relative(path)} judged it when it was another one (manifest {reference.sha256[:12]}"
                )
    if found:
        return found, ""
    now = f"now {mark[:12]})"
    return [], f"{other}, {now}" if other else "this artifact was never evaluated; run `tunewright evaluate`"


def chosen(found: Sequence[Artifact], project: ProjectConfig) -> tuple[Artifact | None, str]:
    """(the newest evaluation with the project file's own settings, why there is none)."""
    differences = ""
    for artifact in reversed(found):
        differing = _differing(artifact.manifest.config, project)
        if not differing:
            return artifact, ""
        differences = differences or ", ".join(differing)
    return None, f"it was evaluated with other settings than the project file's ({differences}); evaluate again"


def _differing(settings: Mapping[str, Any], project: ProjectConfig) -> list[str]:
    """Keys that change what an evaluation means. How many rows are answered at once does not."""
    wanted, had = project.evaluate.model_dump(mode="json"), settings.get("evaluate", {})
    decisive = [key for key in wanted if key not in ("batch_size", "cache", "rivals")]
    keys = [f"evaluate.{key}" for key in decisive if had.get(key) != wanted[key]]
    if settings.get("seed") != project.seed:
        keys.append("seed")
    return keys + (["model"] if settings.get("model") != project.model.model_dump(mode="json") else [])


def other_data(workspace: Workspace, train: Artifact, evaluation: Artifact) -> str:
    """Why the test rows are not those of the training's own data artifact; empty when they are."""
    judged = _input(workspace, evaluation, "data")
    if judged is None:
        return "the data artifact that it was evaluated on is gone or was changed since"
    try:
        judged.file("test.jsonl")
    except ArtifactError as error:
        return f"the test rows: {error.problem}"
    if not judged.manifest.passed:
        return "the data artifact that it was evaluated on did not pass its own gates"
    trained = [reference for reference in train.manifest.inputs if Path(reference.path).parent.name == "data"]
    if trained and trained[0].sha256 != judged.manifest_sha256:
        return (
            f"it was trained on {trained[0].path} and evaluated on {workspace.relative(judged.path)}: test rows of one "
            "may be training rows of the other"
        )
    return ""


def _input(workspace: Workspace, artifact: Artifact, stage: str) -> Artifact | None:
    """The input of this stage when it is still what was recorded."""
    for reference in artifact.manifest.inputs:
        place = workspace.resolve(reference)
        try:
            found = Artifact.open(place)
        except ArtifactError:
            continue
        if found.manifest.stage == stage and found.manifest_sha256 == reference.sha256:
            return found
    return None


def gate_failures(config: EvaluateConfig, scores: Mapping[str, Any], *, passed: bool) -> tuple[list[str], list[str]]:
    """(why gates on the tuned model are not met, the sentences of all). Each is decided again from the stored numbers:
    a `passed` that was written by hand does not count."""
    stored = {(row["metric"], row["when"]): GateResult.model_validate(row) for row in scores["gates"]}
    failures, sentences = [], []
    for gate in config.gates:
        if "tuned" not in gate.on:
            continue
        result, known = outcome.again(gate, scores), stored.get((gate.metric, gate.when))
        sentences.append(f"{result.condition}: {result.reason}")
        if not result.passed:
            failures.append(f"gate `{result.condition}`: {result.reason}")
        elif known is None or not known.passed:
            failures.append(f"gate `{result.condition}` is not recorded as passed")
    if not sentences:
        failures.append("the project file has no gate on the tuned model, so nothing says that it is good enough")
    if not passed and not failures:
        failures.append("the evaluation is sealed as not passed")
    if passed and failures and any(not row["passed"] for row in scores["gates"]):
        failures.append("its manifest says passed, its gates do not: it was changed by hand")
    return failures, sentences


def other_scores(workspace: Workspace, config: EvaluateConfig, evaluation: Artifact) -> str:
    """Which stored score is not what the stored answers give; empty when all are. Metrics that need a model or a
    service are not computed again."""
    data = _input(workspace, evaluation, "data")
    if data is None:
        return ""  # other_data says so
    rows, scores = evaluation.jsonl(SAMPLES), evaluation.json(SCORES)
    intent = scorer.intent_options(config)
    training = [Conversation.from_row(row) for row in data.jsonl("train.jsonl")] if intent else []
    known = labels.training_labels(intent, training) if intent else []
    cheap = [options for options in config.metrics if not _needs_service(options)]
    metrics = scorer.row_metrics(config.model_copy(update={"metrics": tuple(cheap)}), known)
    for system in ("base", "tuned"):
        samples: list[Sample] = list(quantized.samples_of(rows, system).values())
        for metric in metrics:
            for measured in metric.measure(samples):
                stored = scores[system].get(measured.metric)
                if stored is None or abs(stored["value"] - measured.value) > SAME * max(1.0, abs(measured.value)):
                    return (
                        f"{measured.metric} of {system} is {measured.value:.4g} by the stored answers, "
                        f"{stored['value'] if stored else None} in {SCORES}: the scores were changed by hand"
                    )
    return ""


def _needs_service(options: object) -> bool:
    return isinstance(options, ToxicityOptions) and options.classifier.name != "builtin"


def endless_answers(facts: Mapping[str, Any]) -> str:
    """Whether most answers had no end token although the right ones would have fitted; empty when not."""
    rows, cut, long = (int(facts.get(key, 0)) for key in ("rows", "cut_answers", "long_references"))
    if not rows or cut <= MOST_CUT * rows or cut - long <= MOST_CUT / 2 * rows:
        return ""
    return (
        f"{cut} of {rows} answers had no end token within evaluate.max_new_tokens, {long} right answers are that long: "
        "the end token was not learned"
    )


def other_rival(config: EvaluateConfig, evaluation: Artifact, current: Current | None) -> str:
    """Whether gates name the promoted model and the evaluation compared with another one; empty when not."""
    if current is None or not any(gate.names_promoted for gate in config.gates):
        return ""
    if any(reference.sha256 == current.manifest_sha256 for reference in evaluation.manifest.inputs):
        return ""
    return "a gate names the promoted model, and the evaluation compared with another one; evaluate again"


def variant_failures(
    workspace: Workspace, project: ProjectConfig, candidate: Candidate, evaluation: Artifact | None
) -> list[str]:
    """Why a quantized variant may not go on; empty for the tuned model."""
    if candidate.variant == TUNED:
        return []
    failures, row, config = [], candidate.row, candidate.artifact.manifest.config
    if not row.get("accepted"):
        failures.append(
            f"the variant {candidate.variant} was refused: {row.get('note') or 'it has no row in the table'}"
        )
    if config.get("quantize") != project.quantize.model_dump(mode="json"):
        failures.append("it was quantized with other settings than the project file's; quantize again")
    has_gates = any("quantized" in gate.on for gate in project.evaluate.gates)
    named = {reference.sha256 for reference in candidate.artifact.manifest.inputs}
    if has_gates and evaluation is not None and evaluation.manifest_sha256 not in named:
        failures.append("its gates were decided against another evaluation; quantize again")
    return failures


def hints(train: Artifact) -> list[str]:
    """What the training itself says of the model: the likely cause of a gate that is not met."""
    facts = train.manifest.facts
    found = [str(facts[key]) for key in ("failed", "overfitting") if facts.get(key)]
    effect = facts.get("effect") or {}
    verdict = effect.get("verdict")
    return found or ([str(effect["text"])] if verdict and verdict != "effect" else [])


def manifest_failure(artifact: Artifact) -> str:
    """Whether the artifact itself did not pass; empty when it did."""
    if artifact.manifest.passed:
        return ""
    return f"the stage '{artifact.manifest.stage}' did not pass: {artifact.manifest.facts.get('failed', 'see its log')}"


def input_hash_faults(workspace: Workspace, artifact: Artifact) -> str:
    """Which recorded input is no longer what it was; empty when all are, or are gone (pruned)."""
    for reference in artifact.manifest.inputs:
        place = workspace.resolve(reference)
        if (place / manifest.NAME).exists() and Artifact.open(place).manifest_sha256 != reference.sha256:
            return f"its input {reference.path} was changed since"
    return ""
