"""The promoted model as a third system of the exam, where a gate compares with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.core import promoted
from tunewright.core.errors import ArtifactError
from tunewright.core.events import say
from tunewright.core.promoted import TUNED
from tunewright.core.runs import Artifact, Workspace
from tunewright.evaluate.config import EvaluateConfig
from tunewright.models.config import ModelConfig, ModelInfo


@dataclass(frozen=True)
class Promoted:
    """artifact, variant: what the pointer names; train: the train artifact that it is or was made from."""

    artifact: Artifact
    variant: str
    train: Artifact


def find(workspace: Workspace, config: EvaluateConfig) -> Promoted | None:
    """The promoted model when a gate names it; None without such a gate or before the first promotion.

    Raises ArtifactError when it is gone or changed.
    """
    if not any(gate.names_promoted for gate in config.gates):
        return None
    current = promoted.read(workspace)
    if current is None:
        say("evaluate: a gate names the promoted model; nothing is promoted yet, so the base stands in")
        return None
    artifact = promoted.opened(workspace, current)
    return Promoted(artifact, current.variant, _trained(workspace, artifact))


def _trained(workspace: Workspace, artifact: Artifact) -> Artifact:
    if artifact.manifest.stage == "train":
        return artifact
    for reference in artifact.manifest.inputs:
        found = Artifact.open(workspace.resolve(reference))
        if found.manifest.stage == "train":
            return found
    raise ArtifactError("the promoted variant names no train artifact", where=str(artifact.path))


def own_model(found: Promoted, model: ModelConfig) -> ModelConfig:
    """The `model:` section that the promoted model was trained with: the project may have moved to another base."""
    from tunewright.models.tuned import model_info

    info = model_info(found.train)
    return model.model_copy(update={"path": info.base, "revision": info.base_revision})


def load(found: Promoted, model: ModelConfig, base: Path, *, dtype: Any) -> Any:
    """The promoted model in evaluation mode. model, base: its own section and base folder. A GGUF variant is examined
    as the tuned model that it was made from, which is said: its engine is another one."""
    from tunewright.models.compressed import load_compressed
    from tunewright.models.load import load_model
    from tunewright.models.tuned import INFO, open_tuned

    if found.variant == TUNED:
        return open_tuned(found.train, model, base, dtype=dtype)
    folder = found.artifact.folder(found.variant)
    if any(folder.glob("*.gguf")):
        say(f"evaluate: the promoted {found.variant} is examined as the tuned model that it was made from")
        return open_tuned(found.train, model, base, dtype=dtype)
    info = ModelInfo.model_validate(found.artifact.json(f"{found.variant}/{INFO}"))
    if info.bits < 16:
        return load_compressed(folder, dtype=dtype)
    return load_model(folder, dtype=dtype, trust_remote_code=model.trust_remote_code)
