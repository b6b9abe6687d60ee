"""Are these the bytes that were trained and judged? Every file hashed again, weights readable, template and tokenizer
those of the training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.core import files, manifest
from tunewright.core.errors import ArtifactError, TunewrightError
from tunewright.core.promoted import TUNED
from tunewright.core.runs import Artifact, Workspace
from tunewright.models import source
from tunewright.models.config import ModelConfig, ModelInfo
from tunewright.models.tokens import ChatTokenizer
from tunewright.release.candidate import Candidate

INFO, ADAPTER, WEIGHTS = "model.json", "adapter", "model"
_SHOWN = 3


def changed_files(artifact: Artifact) -> str:
    """Which files are missing, changed or added since the artifact was sealed; empty when none is. Everything is read
    and hashed, whatever was proven before."""
    fresh = Artifact.open(artifact.path)
    found = []
    for record in fresh.manifest.files:
        try:
            fresh.file(record.path)
        except ArtifactError as error:
            place = artifact.path / record.path
            size = f" ({place.stat().st_size:,} of {record.bytes:,} bytes)" if place.exists() else ""
            found.append(f"{record.path}: {error.problem}{size}")
    known = {record.path for record in fresh.manifest.files} | {manifest.NAME}
    for path in sorted(artifact.path.rglob("*")):
        name = path.relative_to(artifact.path).as_posix()
        if path.is_file() and name not in known and not path.name.startswith("."):
            found.append(f"{name}: this file was added after the artifact was sealed")
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return "; ".join(found[:_SHOWN]) + more


def info_of(candidate: Candidate) -> ModelInfo:
    """What the candidate's folder says of its model. Raises ArtifactError."""
    name = INFO if candidate.variant == TUNED else f"{candidate.variant}/{INFO}"
    return ModelInfo.model_validate(candidate.artifact.json(name))


def weights_folder(candidate: Candidate, info: ModelInfo) -> Path:
    """The folder with the candidate's own weights."""
    if candidate.variant != TUNED:
        return candidate.artifact.path / candidate.variant
    return candidate.artifact.path / (WEIGHTS if info.kind == "full" else ADAPTER)


def unreadable_weights(candidate: Candidate) -> str:
    """Why the weights cannot be read; empty when they can. Headers only: that their numbers are numbers is proven by
    whoever loads them, and the evaluation has loaded them."""
    info = info_of(candidate)
    folder = weights_folder(candidate, info)
    if any(folder.glob("*.gguf")):
        return ""
    try:
        if info.kind == "adapter":
            stored = folder / "adapter_model.safetensors"
            if not stored.exists():
                return "the adapter has no adapter_model.safetensors"
            found = source.stored_tensors(stored)
            return "" if found else "the adapter holds no weights"
        for path in source.weight_files(folder):
            source.stored_tensors(path)
    except TunewrightError as error:
        return error.problem
    return ""


@dataclass(frozen=True)
class Home:
    """The base model of the project as it is on disk now."""

    folder: Path
    template_sha256: str
    tokenizer_sha256: str

    @classmethod
    def open(cls, model: ModelConfig, workspace: Workspace) -> Home:
        """Raises TunewrightError when the base model is not there or damaged."""
        folder = source.resolve(model, workspace.root)
        tokenizer = ChatTokenizer.load(folder)
        return cls(folder, tokenizer.template.sha256, files.sha256(folder / "tokenizer.json"))


def other_template(candidate: Candidate, home: Home, evaluated: Mapping[str, Any]) -> str:
    """Where the chat template is not the trained one; empty where it is everywhere. evaluated: the facts of the
    evaluation."""
    trained = info_of(candidate).chat_template_sha256
    places = {"the base model's folder": home.template_sha256}
    if "chat_template_sha256" in evaluated:
        places["the evaluation"] = str(evaluated["chat_template_sha256"])
    folder = weights_folder(candidate, info_of(candidate))
    if (folder / "tokenizer.json").exists() and info_of(candidate).kind != "adapter":
        places["the model's own folder"] = ChatTokenizer.load(folder).template.sha256
    wrong = [name for name, found in places.items() if found != trained]
    return f"the chat template of {' and of '.join(wrong)} is not the one it was trained with" if wrong else ""


def other_tokenizer(candidate: Candidate, home: Home, evaluated: Mapping[str, Any]) -> str:
    """Where another tokenizer is than the one that was evaluated with; empty where it is the same everywhere."""
    used = evaluated.get("tokenizer_sha256")
    if used is None:
        return "the evaluation does not say which tokenizer it used; evaluate again"
    places = {"the base model": home.tokenizer_sha256}
    own = weights_folder(candidate, info_of(candidate)) / "tokenizer.json"
    if own.exists():
        places["the model's own folder"] = files.sha256(own)
    wrong = [name for name, found in places.items() if found != used]
    return f"it was evaluated with another tokenizer than that of {' and of '.join(wrong)}" if wrong else ""


def other_base(candidate: Candidate, home: Home) -> str:
    """Whether the base's weights are not those that an adapter was trained on; empty when they are, or none is
    needed."""
    info = info_of(candidate)
    if info.kind != "adapter" or source.weights_sha256(home.folder) == info.base_sha256:
        return ""
    return "the base model's weights are not those the adapter was trained on"
