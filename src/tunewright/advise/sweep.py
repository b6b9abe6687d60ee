"""A small seeded sweep by successive halving: every candidate trains a little, the better part trains longer.

Each trial is a sealed run of the train stage in a workspace of its own, `runs/<project>-sweep/`, so a killed sweep goes
on where it was: the stage finds finished trials by their settings. Only training and validation rows are read.
Sources: Jamieson & Talwalkar 2016 (arXiv 1502.07943); Li et al. 2018 (arXiv 1810.05934), rungs with eta 3.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tunewright.advise import score
from tunewright.advise.advice import Advice
from tunewright.advise.length import at_share, length_of
from tunewright.advise.score import Exam
from tunewright.advise.trials import Candidate, candidates
from tunewright.core.errors import Interrupted, ResourceError, TunewrightError
from tunewright.core.events import clock, say
from tunewright.core.runs import Artifact, Workspace
from tunewright.core.scoring import Measured
from tunewright.models import source
from tunewright.pipeline import Stages

ETA = 3
"""One third of the trials goes on to three times the budget."""
MOST_RUNGS = 3
FEWEST_STEPS = 20
"""A rung with fewer optimizer steps tells little; it is left out."""


@dataclass
class Reached:
    """A trial at one rung. share: of its full steps; loss: nats a trained token on validation."""

    share: float
    path: str
    steps: int
    loss: float
    seconds: float
    measured: Measured | None

    @property
    def order(self) -> tuple[float, float]:
        """Larger is better: the score, then the loss."""
        loss = self.loss if math.isfinite(self.loss) else math.inf
        if self.measured is None:
            return (0.0, -loss)
        value = self.measured.value
        return (value if self.measured.higher_is_better else -value, -loss)


@dataclass
class Trial:
    """A candidate and how far it came. failed: why it could not be trained."""

    candidate: Candidate
    rungs: list[Reached] = field(default_factory=list)
    failed: str = ""

    @property
    def order(self) -> tuple[float, float, float]:
        """Larger is better: budget reached, score, loss."""
        return (self.rungs[-1].share, *self.rungs[-1].order) if self.rungs else (-1.0, 0.0, 0.0)


@dataclass(frozen=True)
class Sweep:
    """What a sweep measured. complete: False where the time ended it."""

    trials: tuple[Trial, ...]
    rungs: tuple[float, ...]
    metric: str
    complete: bool
    seconds: float
    seed: int

    @property
    def best(self) -> Trial:
        """The best trial among those that reached the largest budget."""
        return max(self.trials, key=lambda trial: trial.order)


@dataclass(frozen=True)
class Runner:
    """Trains and scores one candidate at one budget."""

    advice: Advice
    workspace: Workspace
    data: Artifact
    exam: Exam | None

    def run(self, candidate: Candidate, share: float) -> Reached:
        """A finished trial of the same settings is found, not trained again."""
        train = at_share(candidate.train, self.advice.facts.data, share)
        project = self.advice.project.model_copy(update={"train": train})
        artifact = Stages(project, self.workspace, "").run("train", {"data": self.data})
        facts = artifact.manifest.facts
        place = self.workspace.stage_directory("scores")
        return Reached(
            share=share,
            path=self.workspace.relative(artifact.path),
            steps=int(facts["steps"]),
            loss=float(facts["validation_loss"]),
            seconds=float(facts["seconds"]),
            measured=score.measure(self.exam, artifact, place) if self.exam else None,
        )


def sweep_workspace(workspace: Workspace) -> Workspace:
    """Where trials lie; `tunewright runs prune PROJECT name=<project>-sweep --keep 1` empties it."""
    return Workspace(workspace.root, f"{workspace.project}-sweep")


def rungs_for(steps: int) -> tuple[float, ...]:
    """Shares of the full budget, rising to 1. steps: of the rules' proposal."""
    shares = [ETA**-power for power in range(MOST_RUNGS)]
    return tuple(sorted(share for share in shares if share == 1 or steps * share >= FEWEST_STEPS))


def run(advice: Advice, workspace: Workspace, data: Artifact, *, count: int, minutes: float | None) -> Sweep:
    """Raises Interrupted after a signal, ResourceError for disk and memory, and the fault of the last trial where none
    could be trained. minutes: no trial is begun that would probably end later."""
    start = time.monotonic()
    project = advice.project
    rungs = rungs_for(length_of(advice.rules.train, advice.facts.data).steps)
    drawn = candidates(advice.rules.train, project.train, advice.facts, count=count, seed=project.seed)
    exam = score.prepare(project, data, source.resolve(project.model, workspace.root))
    runner = Runner(advice, sweep_workspace(workspace), data, exam)
    trials = [Trial(candidate) for candidate in drawn]
    words = " and ".join(f"{share:.0%}" for share in rungs)
    say(f"sweep: {len(trials)} settings, seed {project.seed}, budgets of {words} of the steps, one in {ETA} goes on")
    clockwork = Clock(start + minutes * 60 if minutes else math.inf)
    complete = halve(trials, rungs, runner.run, clockwork)
    if all(not trial.rungs for trial in trials):
        raise ResourceError(
            f"no setting could be trained: {trials[0].failed or 'the time was over'}", fix="--minutes more"
        )
    metric = project.evaluate.primary if exam else "validation_loss"
    return Sweep(tuple(trials), rungs, metric, complete, time.monotonic() - start, project.seed)


@dataclass
class Clock:
    """Says whether there is time for a trial, from what trials have taken. deadline: monotonic seconds."""

    deadline: float
    slowest: float = 0.0
    """Seconds that a whole budget of one candidate takes at most, as seen so far."""

    def has_time(self, share: float) -> bool:
        """The first trial always has."""
        return time.monotonic() + self.slowest * share <= self.deadline

    def learn(self, seconds: float, share: float) -> None:
        """A trial of `share` took `seconds` with its scoring."""
        self.slowest = max(self.slowest, seconds / share)


def halve(
    trials: Sequence[Trial], rungs: Sequence[float], train: Callable[[Candidate, float], Reached], clockwork: Clock
) -> bool:
    """Fills the trials' rungs; False where time ended it. The rules' own proposal is never stopped early, so that the
    best is always compared with it at the full budget."""
    alive = list(trials)
    for share in rungs:
        for trial in alive:
            if not clockwork.has_time(share):
                say("sweep: the time is over; the same command goes on from here")
                return False
            began = time.monotonic()
            if _try(trial, share, train):
                clockwork.learn(time.monotonic() - began, share)
        ranked = sorted((t for t in alive if t.rungs and not t.failed), key=lambda t: t.order, reverse=True)
        alive = ranked[: max(1, math.ceil(len(ranked) / ETA))]
        alive += [trial for trial in ranked if trial.candidate.origin == "rules" and trial not in alive]
    return True


def _try(trial: Trial, share: float, train: Callable[[Candidate, float], Reached]) -> bool:
    """Whether the trial could be trained; a fault of its settings ends this trial only."""
    candidate = trial.candidate
    say(f"sweep: trial {candidate.number} ({candidate.origin}) at {share:.0%} of its steps")
    try:
        trial.rungs.append(train(candidate, share))
    except (Interrupted, ResourceError):
        raise
    except TunewrightError as error:
        trial.failed = error.problem
        say(f"sweep: trial {candidate.number} failed: {error.problem}")
        return False
    reached = trial.rungs[-1]
    value = f"{reached.measured.metric} {reached.measured.value:.3f}, " if reached.measured else ""
    say(f"sweep: trial {candidate.number}: {value}validation loss {reached.loss:.4f}, {clock(reached.seconds)}")
    return True
