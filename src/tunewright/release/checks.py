"""Everything that must hold before the pointer moves, each with its reason, all reported at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from tunewright.core import promoted
from tunewright.core.errors import GateError, TunewrightError
from tunewright.core.events import say
from tunewright.core.runs import Artifact, Workspace
from tunewright.project import ProjectConfig
from tunewright.release import evidence, history, integrity
from tunewright.release.candidate import Candidate


@dataclass
class Findings:
    """What was checked. failures: (check, reason); passed: the names of checks that found nothing; evaluation: the one
    that judges the candidate; sentences: of its gates; hints: likely causes."""

    failures: list[tuple[str, str]] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)
    evaluation: Artifact | None = None
    sentences: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)

    def note(self, check: str, reasons: str | list[str]) -> None:
        """Files the reasons of one check; none is good."""
        found = [reasons] if isinstance(reasons, str) else reasons
        failed = [(check, reason) for reason in found if reason]
        self.failures += failed
        if not failed:
            self.passed.append(check)

    def attempt(self, check: str, find: Callable[[], str | list[str]]) -> None:
        """Like `note`; a fault of the artifact itself is a reason as well."""
        try:
            self.note(check, find())
        except TunewrightError as error:
            self.note(check, f"{error.where}: {error.problem}" if error.where else error.problem)


def examine(workspace: Workspace, project: ProjectConfig, candidate: Candidate) -> Findings:
    """Checks bytes first, then the proof that they are good enough."""
    found = Findings()
    found.attempt("history", lambda: history.faults(workspace))
    artifacts = {"train": candidate.train, candidate.artifact.manifest.stage: candidate.artifact}
    for name, artifact in artifacts.items():
        say(f"promote: hashing every file of {workspace.relative(artifact.path)}")
        found.attempt(f"files of {name}", partial(integrity.changed_files, artifact))
        found.attempt(f"{name} passed", partial(evidence.manifest_failure, artifact))
        found.attempt(f"inputs of {name}", partial(evidence.input_hash_faults, workspace, artifact))
    found.attempt("weights", lambda: integrity.unreadable_weights(candidate))
    _judged(found, workspace, project, candidate)
    _at_home(found, workspace, project, candidate)
    found.hints = evidence.hints(candidate.train) if found.failures else []
    return found


def _judged(found: Findings, workspace: Workspace, project: ProjectConfig, candidate: Candidate) -> None:
    """The evaluation and its gates."""
    config = project.evaluate
    every, why = evidence.evaluations(workspace, candidate.train)
    if not every:
        found.note("evaluation", why)
        return
    evaluation, why = evidence.chosen(every, project)
    found.note("evaluation", why)
    evaluation = evaluation or every[-1]
    found.evaluation = evaluation
    before = len(found.failures)
    found.attempt("files of evaluate", lambda: integrity.changed_files(evaluation))
    found.attempt("data", lambda: evidence.other_data(workspace, candidate.train, evaluation))
    if len(found.failures) > before:
        return  # numbers that were changed, or rows that are gone, decide nothing
    found.attempt("scores", lambda: evidence.other_scores(workspace, config, evaluation))
    failures, found.sentences = evidence.gate_failures(
        config, evaluation.json(evidence.SCORES), passed=evaluation.manifest.passed
    )
    found.note("gates", failures)
    found.note("end of answers", evidence.endless_answers(evaluation.manifest.facts))
    found.attempt("promoted model", lambda: evidence.other_rival(config, evaluation, promoted.read(workspace)))
    found.attempt("variant", lambda: evidence.variant_failures(workspace, project, candidate, evaluation))


def _at_home(found: Findings, workspace: Workspace, project: ProjectConfig, candidate: Candidate) -> None:
    """Template, tokenizer and base weights."""
    try:
        home = integrity.Home.open(project.model, workspace)
    except TunewrightError as error:
        found.note("base model", error.problem)
        return
    facts = found.evaluation.manifest.facts if found.evaluation else {}
    found.attempt("chat template", lambda: integrity.other_template(candidate, home, facts))
    if found.evaluation:
        found.attempt("tokenizer", lambda: integrity.other_tokenizer(candidate, home, facts))
    found.attempt("base model", lambda: integrity.other_base(candidate, home))


def require(found: Findings, *, where: str) -> None:
    """Raises GateError with every reason when a check failed."""
    if found.failures:
        reasons = "\n".join(f"  {check}: {reason}" for check, reason in found.failures)
        hints = "".join(f"\n  the training says: {hint}" for hint in found.hints)
        raise GateError(
            f"this artifact is not promoted, for {len(found.failures)} "
            f"reason{'s' if len(found.failures) > 1 else ''}\n{reasons}{hints}",
            where=where,
            fix="mend what is named, then train, evaluate or quantize again and promote the new artifact",
        )
