"""`run`: the stages in order, what they need, what they will cost in disk, and the summary of what was proven."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

from tunewright.core import files
from tunewright.core.chat import Conversation
from tunewright.core.errors import GateError, ResourceError
from tunewright.core.events import clock, say
from tunewright.core.files import human_bytes
from tunewright.core.runs import Artifact, Workspace
from tunewright.models import source
from tunewright.project import ProjectConfig

if TYPE_CHECKING:
    from tunewright.train.generated import GeneratedExam

NEEDS: dict[str, tuple[str, ...]] = {
    "data": (),
    "train": ("data",),
    "evaluate": ("data", "train"),
    "quantize": ("data", "train"),
    "serve": ("data", "train", "quantize"),
    "report": ("data", "train", "evaluate", "quantize", "serve"),
}
SUMMARY = "summary.json"
BYTES_A_WEIGHT = {"bf16": 2.0, "fp16": 2.0, "int8": 1.25, "awq": 0.9, "gguf-q8_0": 1.1, "gguf-q4_0": 0.7} | {
    "int8-weight": 1.25,
    "gptq": 0.9,
    "nf4": 0.9,
    "gguf-q4_k_m": 0.8,
}
"""Upper estimates, embeddings included."""


def needs(project: ProjectConfig, name: str) -> tuple[str, ...]:
    """The artifacts stage `name` opens. Gates on quantized variants compare with the base's answers of `evaluate`."""
    has_gates = any("quantized" in gate.on for gate in project.evaluate.gates)
    return (*NEEDS[name], "evaluate") if name == "quantize" and has_gates else NEEDS[name]


@dataclass(frozen=True)
class Plan:
    """What will be done and what it needs."""

    stages: list[str]
    disk_bytes: int
    free_bytes: int
    weights: int

    def text(self) -> str:
        """For the screen, before anything starts."""
        model = f"{self.weights / 1e6:,.0f} M weights" if self.weights else "the model is fetched first"
        return (
            f"plan: {' -> '.join(self.stages)}; {model}; needs about {human_bytes(self.disk_bytes)} of disk, "
            f"{human_bytes(self.free_bytes)} are free"
        )


def plan(project: ProjectConfig, workspace: Workspace, *, only: str = "") -> Plan:
    """The stages and their disk need. Raises ResourceError when the disk cannot hold it."""
    stages = [only] if only else list(NEEDS)
    local = source.is_local(project.model, workspace.root)
    weights = source.parameter_count(source.resolve(project.model, workspace.root)) if local else 0
    if local and "quantize" in stages:  # what cannot be made here is refused before anything is trained
        from tunewright.quantize import variants

        folder, trust = source.resolve(project.model, workspace.root), project.model.trust_remote_code
        variants.check_all(project.quantize.variants, folder, trust_remote_code=trust)
    disk = 20_000_000
    if "train" in stages:
        share = 1.0 if project.train.method.name in ("full", "freeze") else 0.05
        disk += int(weights * share * 12 * (project.train.keep_checkpoints + 1))
    if "quantize" in stages:
        disk += int(weights * sum(BYTES_A_WEIGHT.get(variant.name, 2.0) for variant in project.quantize.variants))
    free = psutil.disk_usage(str(workspace.root)).free
    found = Plan(stages, disk, free, weights)
    if disk > free:
        raise ResourceError(
            f"this needs about {human_bytes(disk)} of disk and {human_bytes(free)} are free",
            where=str(workspace.root),
            fix="free space, `tunewright runs prune --keep 1`, or fewer quantize.variants",
        )
    return found


class Stages:
    """Calls a stage with its part of the project."""

    def __init__(self, project: ProjectConfig, workspace: Workspace, file_name: str) -> None:
        self.project, self.workspace, self.file_name = project, workspace, file_name

    def run(self, name: str, inputs: dict[str, Artifact]) -> Artifact:
        """The sealed artifact of stage `name`. Raises GateError when it did not pass."""
        call: Callable[[dict[str, Artifact]], Artifact] = getattr(self, f"_{name}")
        artifact = call(inputs)
        if not artifact.manifest.passed:
            reason = artifact.manifest.facts.get("failed", "its gates did not pass")
            raise GateError(str(reason), where=self.workspace.relative(artifact.path), folder=artifact.path)
        return artifact

    def state_power(self, data: Artifact) -> None:
        """Says what the test rows can show. Raises ConfigError for a gate that they cannot decide."""
        from tunewright.evaluate import early

        project, rows = self.project, self.project.quantize.task_rows
        for line in early.state(project.evaluate, data, self.workspace, seed=project.seed, task_rows=rows):
            say(f"power: {line}")

    def _data(self, _: dict[str, Artifact]) -> Artifact:
        from tunewright.data import stage

        return stage.run(self.workspace, self.project.data, model=self.project.model, seed=self.project.seed)

    def _train(self, inputs: dict[str, Artifact]) -> Artifact:
        from tunewright.train import stage

        project = self.project
        exam = _validation_exam(project, inputs["data"]) if project.train.evaluate_generated else None
        return stage.run(self.workspace, project.train, model=project.model, seed=project.seed, exam=exam, **inputs)

    def _evaluate(self, inputs: dict[str, Artifact]) -> Artifact:
        from tunewright.evaluate import stage

        project = self.project
        return stage.run(self.workspace, project.evaluate, model=project.model, seed=project.seed, **inputs)

    def _quantize(self, inputs: dict[str, Artifact]) -> Artifact:
        from tunewright.evaluate import labels, quantized, scorer
        from tunewright.quantize import stage
        from tunewright.quantize.measure import Exam

        project = self.project
        rows = [Conversation.from_row(row) for row in inputs["data"].jsonl("train.jsonl")]
        intent = scorer.intent_options(project.evaluate)
        score = scorer.primary_scorer(project.evaluate, labels.training_labels(intent, rows) if intent else ())
        answered = inputs["evaluate"].jsonl("samples.jsonl") if "evaluate" in inputs else []
        base, promoted = (quantized.samples_of(answered, system) for system in ("base", "promoted"))
        exam = Exam(
            scorer=score,
            applies=lambda conversation: scorer.applies_to(project.evaluate, conversation),
            max_new_tokens=project.evaluate.max_new_tokens,
            batch_size=project.evaluate.batch_size,
            name=project.evaluate.primary,
            judge=quantized.judge(project.evaluate, score, base, seed=project.seed, promoted=promoted),
        )
        return stage.run(self.workspace, project.quantize, model=project.model, seed=project.seed, exam=exam, **inputs)

    def _serve(self, inputs: dict[str, Artifact]) -> Artifact:
        from tunewright.serve import stage

        model, config = self.project.model, self.project.serve
        data, train, quantize = inputs["data"], inputs["train"], inputs.get("quantize")
        return stage.measure(self.workspace, config, model=model, data=data, train=train, quantize=quantize)

    def _report(self, inputs: dict[str, Artifact]) -> Artifact:
        from tunewright.report import stage

        return stage.run(
            self.workspace,
            project_file_name=self.file_name,
            data=inputs["data"],
            train=inputs.get("train"),
            evaluate=inputs.get("evaluate"),
            quantize=inputs.get("quantize"),
            serve=inputs.get("serve"),
        )


def _validation_exam(project: ProjectConfig, data: Artifact) -> GeneratedExam:
    """What `train` scores generated answers with: `evaluate`'s metrics over answers, asked as the tuned model is."""
    from tunewright.evaluate import labels, prompts, scorer
    from tunewright.train.generated import GeneratedExam

    config = project.evaluate
    rows = [Conversation.from_row(row) for row in data.jsonl("train.jsonl")]
    intent = scorer.intent_options(config)
    known = labels.training_labels(intent, rows) if intent else []
    metrics = scorer.row_metrics(config, known)
    return GeneratedExam(
        grade=lambda samples: [measured for metric in metrics for measured in metric.measure(samples)],
        applies=lambda row: any(metric.applies(row.metadata) for metric in metrics),
        ask=lambda row: prompts.messages_for(config, known, row, system="tuned"),
        batch_size=config.batch_size,
        settings={"metrics": [options.model_dump(mode="json") for options in config.metrics]},
    )


def run(
    project: ProjectConfig, workspace: Workspace, *, project_file: str, keep_going: bool
) -> tuple[dict[str, Any], str]:
    """All stages; returns (summary, the text for the screen). Writes runs/<project>/summary.json.

    A gate that does not pass ends the run with GateError, unless `keep_going`.
    """
    from tunewright.models import tuned

    start = time.monotonic()
    stages = Stages(project, workspace, project_file)
    done: dict[str, Artifact] = {}
    failed: list[GateError] = []
    for number, name in enumerate(NEEDS, start=1):
        say(f"[{number}/{len(NEEDS)}] {name}")
        began = time.monotonic()
        if name == "train":
            stages.state_power(done["data"])
        if name == "quantize" and not tuned.merges(done["train"]):
            say("quantize: left out, since this method trains no weight that could be quantized")
            continue
        try:
            done[name] = stages.run(name, {need: done[need] for need in needs(project, name) if need in done})
        except GateError as error:
            if error.folder is None:
                raise
            done[name] = Artifact.open(error.folder)
            failed.append(error)
            if not keep_going:
                page = stages.run("report", done)
                say(f"report: {workspace.relative(page.file('report.html'))}")
                raise
            say(f"warning: {error}")
        say(f"[{number}/{len(NEEDS)}] {name} done in {clock(time.monotonic() - began)}")
    summary = summarize(done, seconds=time.monotonic() - start, workspace=workspace)
    files.write_json(workspace.root / "runs" / workspace.project / SUMMARY, summary)
    tables = [table(done[name]) for name in ("evaluate", "quantize") if name in done]
    text = "\n\n".join([*tables, f"report: {summary['report']}"])
    for fault in failed:
        say(f"warning: a gate did not pass: {fault.problem}")
    return summary, text


def summarize(done: dict[str, Artifact], *, seconds: float, workspace: Workspace) -> dict[str, Any]:
    """What summary.json holds."""
    scores = done["evaluate"].json("scores.json")
    keys = ("value", "low", "high", "n")
    columns = (
        "scheme",
        "bytes",
        "ratio",
        "engine",
        "tokens_per_second",
        "task_score",
        "task_change",
        "perplexity",
        "agreement",
        "accepted",
    )
    facts = done["data"].manifest.facts
    measured = done["serve"].json("measurement.json")
    variants = done["quantize"].json("table.json") if "quantize" in done else []
    return {
        "seconds": round(seconds, 1),
        "report": workspace.relative(done["report"].file("report.html")),
        "data": {key: facts[key] for key in ("read", "kept", "repaired", "quarantined")},
        "evaluate": {
            **{side: {m: {k: s[k] for k in keys} for m, s in scores[side].items()} for side in ("base", "tuned")},
            "paired": {m: {"difference": d["difference"], "p": d["p"]} for m, d in scores["paired"].items()},
        },
        "quantize": [{key: row.get(key) for key in columns} for row in variants],
        "serve": {key: measured[key] for key in ("first_token_s", "tokens_per_second")},
    }


def table(artifact: Artifact) -> str:
    """The stage's result as text."""
    name = artifact.manifest.stage
    if name == "data":
        from tunewright.data.table import table as data_table

        return data_table(artifact.json("report.json"))
    if name == "evaluate":
        from tunewright.evaluate.compare import worse_text
        from tunewright.evaluate.table import table as scores_table

        scores = artifact.json("scores.json")
        primary = scores["tuned"].get(scores["primary"], {})
        worse = worse_text(artifact.jsonl("samples.jsonl"), higher_is_better=primary.get("higher_is_better", True))
        return f"{scores_table(scores)}\n{worse}"
    if name == "quantize":
        from tunewright.quantize.table import table as variants_table

        return variants_table(artifact.json("table.json"))
    if name == "report":
        return str(artifact.file("report.html"))
    facts = artifact.manifest.facts
    return "\n".join(f"{key}: {value}" for key, value in facts.items())
