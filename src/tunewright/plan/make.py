"""The plan as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.core.errors import ConfigError
from tunewright.core.runs import Artifact, Workspace
from tunewright.plan.alternatives import Alternative, alternatives, cheapest
from tunewright.plan.device import Target, target
from tunewright.plan.disk import Disk, disk_of
from tunewright.plan.guide import Claim, claims
from tunewright.plan.job import Job, job_of
from tunewright.plan.probe import Probe, probe
from tunewright.project import ProjectConfig
from tunewright.train.footprint.predict import Walks


@dataclass(frozen=True)
class Asked:
    """What the command line asks for. price: of a device and hour, in any currency."""

    model_config: Path | None = None
    memory: str | None = None
    devices: int | None = None
    probe: bool = False
    price: float | None = None


@dataclass(frozen=True)
class Plan:
    """best: the cheapest alternative that fits; None where none does. walks: of the model, for more alternatives."""

    job: Job
    target: Target
    found: list[Alternative]
    best: Alternative | None
    disk: Disk
    claims: list[Claim]
    probe: Probe | None
    price: float | None
    walks: Walks

    @property
    def written(self) -> Alternative:
        """The project as it is."""
        return self.found[0]

    @property
    def parameters(self) -> int:
        """Weights of the base."""
        need, name = self.written.need, self.job.settings.method.name
        return need.total if name in ("full", "freeze") else need.total - need.trained

    @property
    def validations(self) -> int:
        """In the whole training."""
        every = self.job.settings.evaluations_per_epoch
        epochs = self.job.settings.epochs or 3.0
        return max(1, round(every * epochs)) if self.job.settings.steps is None else every

    def seconds(self, one: Alternative) -> float | None:
        """Estimated time of the training: the probe's, times what it computes more or less than the project as
        written, over its devices. None without a probe, and where the machine's memory is used (not estimated)."""
        if self.probe is None or one.split.offload or one.settings.activation_offload:
            return None
        whole = self.probe.seconds(self.job.computed, self.validations)
        return whole * one.operations / self.written.operations / one.split.devices

    def cost(self, one: Alternative) -> float | None:
        """Price of all devices over that time."""
        seconds = self.seconds(one)
        return None if seconds is None or self.price is None else self.price * seconds / 3600 * one.split.devices

    def dump(self) -> dict[str, Any]:
        """For --json."""
        job = self.job
        return {
            "model": job.model,
            "parameters": self.parameters,
            "trained_parameters": self.written.need.trained,
            "machine": self.target.__dict__,
            "has_rows": job.data is not None,
            "steps": len(job.steps) if job.data else None,
            "tokens": job.tokens if job.data else None,
            "computed_tokens": job.computed if job.data else None,
            "disk": {**self.disk.__dict__, "bytes": self.disk.bytes},
            "alternatives": [self._dumped(one) for one in self.found],
            "cheapest": self._dumped(self.best) if self.best else None,
            "guide": [claim.__dict__ for claim in self.claims],
            "probe": self.probe.__dict__ if self.probe else None,
        }

    def _dumped(self, one: Alternative) -> dict[str, Any]:
        return {
            "name": one.name,
            "overrides": one.overrides,
            "fits": one.fits,
            "keeps_method": one.keeps,
            "devices": one.split.devices,
            "memory": one.need.dump(),
            "seconds": self.seconds(one),
            "cost": self.cost(one),
        }


def make(project: ProjectConfig | None, workspace: Workspace | None, data: Artifact | None, asked: Asked) -> Plan:
    """Loads no weight, except where a probe is asked for.

    Raises ConfigError for what cannot be planned, ArtifactError for a configuration that describes no known model.
    """
    if asked.price is not None and not asked.probe:
        raise ConfigError("a cost needs a time, and a time needs a probe", fix="add --probe")
    if asked.probe and (project is None or asked.model_config is not None):
        raise ConfigError("--probe trains the project's own model", fix="leave --model-config out")
    job = job_of(project, workspace, data, model_config=asked.model_config)
    place = target(asked.memory, asked.devices)
    walks = Walks(job.config)
    found = alternatives(job, place, walks)
    best = cheapest(found)
    measured = probe(project, job) if asked.probe and project else None
    chosen: Sequence[Alternative] = [best] if best else found
    disk = disk_of(project, chosen[0] if not found[0].fits else found[0])
    return Plan(job, place, found, best, disk, claims(found), measured, asked.price, walks)
