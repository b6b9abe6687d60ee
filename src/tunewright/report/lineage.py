"""From raw file to served model: who read what, proven by hash; and the machine and versions behind the figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata

from tunewright import __version__
from tunewright.core.files import human_bytes
from tunewright.core.machine import Machine
from tunewright.core.manifest import InputRef
from tunewright.core.runs import Artifact, Workspace

LIBRARIES = (
    "torch", "transformers", "peft", "accelerate", "llmcompressor", "compressed-tensors", "gguf", "xllamacpp",
    "tokenizers", "safetensors", "sacrebleu", "fastapi", "pydantic", "numpy",
)  # fmt: skip

_COMMANDS = {"chain": "tunewright evaluate --chain {}"}
"""Commands of stages that are no verb of their own."""


@dataclass(frozen=True)
class Read:
    """An input of an artifact. state: `raw` file, `shown` on this page with this hash, or `other`."""

    path: str
    sha256: str
    state: str


@dataclass(frozen=True)
class Link:
    """One artifact of the chain."""

    stage: str
    path: str
    created: str
    passed: bool
    sha256: str
    bytes: str
    inputs: tuple[Read, ...]


def links(workspace: Workspace, artifacts: Sequence[Artifact]) -> list[Link]:
    """The chain in the order of the stages."""
    known = {workspace.relative(artifact.path): artifact.manifest_sha256 for artifact in artifacts}
    return [_link(workspace, artifact, known) for artifact in artifacts]


def _link(workspace: Workspace, artifact: Artifact, known: dict[str, str]) -> Link:
    manifest = artifact.manifest
    return Link(
        stage=manifest.stage,
        path=workspace.relative(artifact.path),
        created=f"{manifest.created:%Y-%m-%d %H:%M} UTC",
        passed=manifest.passed,
        sha256=artifact.manifest_sha256,
        bytes=human_bytes(sum(record.bytes for record in manifest.files)),
        inputs=tuple(Read(ref.path, ref.sha256, _state(ref, known)) for ref in manifest.inputs),
    )


def _state(reference: InputRef, known: dict[str, str]) -> str:
    if reference.sha256 in known.values():
        return "shown"
    return "other" if "runs/" in reference.path or reference.path in known else "raw"


def breaks(chain: Sequence[Link]) -> list[str]:
    """Sentences for every place where the page would mix artifacts of different runs."""
    return [
        f"{link.stage} ({link.path}) was made from {read.path}, which is not the artifact shown on this page."
        for link in chain
        for read in link.inputs
        if read.state == "other"
    ]


def machines(artifacts: Sequence[Artifact]) -> list[tuple[str, Machine]]:
    """(stages, machine): stages that ran on the same machine share a line."""
    found: list[tuple[Machine, list[str]]] = []
    for artifact in artifacts:
        machine, stage = artifact.manifest.machine, artifact.manifest.stage
        stages = next((stages for seen, stages in found if seen == machine), None)
        if stages is None:
            found.append((machine, [stage]))
        else:
            stages.append(stage)
    return [(", ".join(stages), machine) for machine, stages in found]


def library_versions() -> list[tuple[str, str]]:
    """Installed versions, without importing anything."""
    found = []
    for name in LIBRARIES:
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            found.append((name, "not installed"))
    return found


def commands(project_file_name: str, stages: Sequence[str]) -> list[str]:
    """What to type to get these artifacts again, from the folder of the project file."""
    return [
        f"pip install 'tunewright[all]=={__version__}'",
        *(_COMMANDS.get(stage, f"tunewright {stage} {{}}").format(project_file_name) for stage in stages),
        f"tunewright report {project_file_name}",
        f"tunewright runs verify {project_file_name}",
    ]
