"""Twenty real steps in a scratch folder: what a token costs on this machine."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from tunewright.core.errors import ConfigError
from tunewright.core.events import read_events, say
from tunewright.core.runs import Workspace
from tunewright.models.packing import computed_tokens
from tunewright.plan.job import Job
from tunewright.project import ProjectConfig
from tunewright.train import stage
from tunewright.train.effect_options import EffectConfig
from tunewright.train.rows import shares_prefixes

STEPS = 20
WARM_UP = 2
"""Steps that are not counted: the first ones make buffers and compile."""


@dataclass(frozen=True)
class Probe:
    """steps: that were measured; seconds a computed token and for one validation; peak_bytes: of those steps."""

    steps: int
    token_s: float
    validation_s: float
    peak_bytes: int

    def seconds(self, computed: int, validations: int) -> float:
        """A whole training of as many computed tokens and validations."""
        return self.token_s * computed + self.validation_s * validations


def probe(project: ProjectConfig, job: Job) -> Probe:
    """Trains the first steps of the project's own rows, elsewhere; nothing of it is kept.

    Raises ConfigError where there are no rows yet, or the training is shared by several devices.
    """
    if job.data is None:
        raise ConfigError("--probe trains on the project's rows, and there are none yet", fix="run `tunewright data`")
    if job.settings.sharding is not None:
        raise ConfigError("--probe trains on one device", fix="add train.sharding=null")
    settings = job.settings.model_copy(
        update={
            "steps": min(STEPS, len(job.steps)),
            "epochs": None,
            "early_stopping": None,
            "evaluate_generated": None,
            "report_to": (),
            "effect": EffectConfig(required=False),
        }
    )
    say(f"plan: trains {settings.steps} steps in a scratch folder")
    with tempfile.TemporaryDirectory(prefix="tunewright-probe-") as folder:
        workspace = Workspace(Path(folder), "probe")
        done = stage.run(workspace, settings, model=project.model, seed=project.seed, data=job.data)
        events, peak = read_events(done.path / "events.jsonl"), int(done.manifest.facts["peak_memory_bytes"])
    return _read(events, job, peak)


def _read(events: list[dict[str, Any]], job: Job, peak: int) -> Probe:
    """Seconds between one step's end and the next one's, where nothing stands between."""
    share = job.settings.packing and shares_prefixes(job.settings)
    limit = job.settings.micro_batch_tokens
    seconds = tokens = 0.0
    measured = 0
    validations = []
    shown = [event for event in events if event["event"] in ("step", "validation")]
    for before, event in pairwise(shown):
        passed = event["seconds"] - before["seconds"]
        if event["event"] == "validation":
            validations.append(passed)
        elif before["event"] == "step" and (before["step"] >= WARM_UP or len(job.steps) <= WARM_UP + 1):
            seconds += passed
            tokens += computed_tokens(job.steps[event["step"] - 1], max_tokens=limit, share_prefix=share)
            measured += 1
    if not measured:
        raise ConfigError(
            "these steps are too few to be measured", fix="plan without --probe; the training itself is short"
        )
    return Probe(measured, seconds / tokens, sum(validations) / max(1, len(validations)), peak)
