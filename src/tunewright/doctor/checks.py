"""All checks in order. Loads no torch in this process, asks no network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from tunewright.core.errors import TunewrightError
from tunewright.core.machine import has_fast_bfloat16
from tunewright.doctor import hardware
from tunewright.doctor.adapters import adapter_facts
from tunewright.doctor.checkpoints import Trains, checkpoints_fact
from tunewright.doctor.facts import Fact, failed, table
from tunewright.doctor.libraries import library_facts, python_fact
from tunewright.doctor.model import is_here, model_facts
from tunewright.doctor.services import Addressed, redis_fact
from tunewright.models import source
from tunewright.models.config import ModelConfig
from tunewright.models.source import cache_directory

__all__ = ["Fact", "check", "failed", "table"]

DEFAULT_PORT = 8000


class Listens(Protocol):
    """The part of a `serve:` section that is checked."""

    @property
    def host(self) -> str: ...

    @property
    def port(self) -> int: ...

    @property
    def cache(self) -> Addressed: ...

    @property
    def jobs(self) -> Addressed: ...


class Project(Protocol):
    """The part of a project that is checked."""

    @property
    def model(self) -> ModelConfig: ...

    @property
    def serve(self) -> Listens: ...

    @property
    def train(self) -> Trains: ...


def check(project: Project | None, root: Path) -> list[Fact]:
    """Facts of this machine, and with a project those of its model and port. `root`: folder of the project file."""
    found = hardware.gpus()
    total, free = hardware.memory()
    dtype = project.model.dtype if project else "auto"
    facts = [
        python_fact(),
        *library_facts(),
        *adapter_facts(),
        hardware.cpu_fact(dtype, has_bfloat16=has_fast_bfloat16(), has_gpu=bool(found)),
        hardware.gpu_fact(found, hardware.torch_version()),
        *([hardware.driver_fact(*hardware.driver(), hardware.torch_version())] if found else []),
        hardware.memory_fact(total, free),
        hardware.writable_fact(root),
        *disk_facts(root),
    ]
    if project:
        facts += model_facts(project.model, root, free_memory=free)
        facts += _checkpoint_facts(project, root)
    host, port = (project.serve.host, project.serve.port) if project else ("127.0.0.1", DEFAULT_PORT)
    facts.append(hardware.port_fact(host, port, required=project is not None))
    return [*facts, *(_redis_facts(project.serve) if project else []), *reference_facts()]


def _checkpoint_facts(project: Project, root: Path) -> list[Fact]:
    """None where the model's weights are not on this disk yet, or are faulty, which its own facts say."""
    if not is_here(project.model, root):
        return []
    try:
        folder = source.resolve(project.model, root)
        return [checkpoints_fact(project.train, folder, hardware.disk_free(root))]
    except TunewrightError:
        return []


def _redis_facts(serve: Listens) -> list[Fact]:
    found = [redis_fact("serve.cache.store", serve.cache), redis_fact("serve.jobs.broker", serve.jobs)]
    return [fact for fact in found if fact is not None]


def disk_facts(root: Path) -> list[Fact]:
    """The project, our model cache and the Hugging Face cache: often three file systems."""
    hub = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    places = {"disk, project": root, "disk, converted models": cache_directory(), "disk, Hugging Face": hub}
    return [hardware.disk_fact(name, place, hardware.disk_free(place)) for name, place in places.items()]


def reference_facts() -> list[Fact]:
    """What a 7-billion-parameter model asks for, beside what a widely read guide to tuning one advises.

    Sizes are 2 bytes a parameter for weights and 16 for mixed AdamW, at 6.91e9 parameters, without activations.
    """
    return [
        Fact(
            name="for a 7B model",
            fact="weights 13.8 GB in bf16; LoRA about 14 GB and full training about 111 GB, activations apart",
        ),
        Fact(
            name="a guide's minimum",
            fact="one A10-class GPU with 16 GB, 32 GB of memory, 200 GB of SSD: enough for LoRA, not for full training",
        ),
        Fact(name="the guide's advice", fact="two A100 with 80 GB, 128 GB of memory, a 1 TB NVMe drive"),
    ]
