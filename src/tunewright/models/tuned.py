"""Opening what train sealed: adapter or full weights, merged for use, refused when the template has changed.

Loads peft only where there is an adapter: it takes a second.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tunewright.core.errors import ArtifactError
from tunewright.core.runs import Artifact
from tunewright.models import source
from tunewright.models.config import ModelConfig, ModelInfo
from tunewright.models.load import load_model
from tunewright.models.tokens import ChatTokenizer

INFO = "model.json"
ADAPTER = "adapter"
WEIGHTS = "model"


def model_info(artifact: Artifact) -> ModelInfo:
    """What the artifact says of its model."""
    return ModelInfo.model_validate(artifact.json(INFO))


def prove(artifact: Artifact) -> None:
    """Raises ArtifactError when the trained weights are missing or changed: before the slow work, not after it."""
    artifact.folder(WEIGHTS if model_info(artifact).kind == "full" else ADAPTER)


def merges(artifact: Artifact) -> bool:
    """Whether the tuned model has weights of its own: a full one, or an adapter that becomes part of the base's."""
    if model_info(artifact).kind == "full":
        return True
    from tunewright.models import adapters

    return adapters.merges(artifact.folder(ADAPTER))


def prove_merges(artifact: Artifact) -> None:
    """Raises ArtifactError for an adapter that stays beside the base, before anything that needs whole weights."""
    if not merges(artifact):
        raise ArtifactError(
            f"the method '{model_info(artifact).method}' trains no change of a weight, so there is no merged model",
            where=str(artifact.path),
            fix="serve the base with its adapter as it is, or train with lora or ia3",
        )


def open_tuned(artifact: Artifact, model: ModelConfig, base: Path, *, dtype: torch.dtype, merge: bool = True) -> Any:
    """The tuned model in evaluation mode: an adapter merged into the base where its method can be merged, a prefix in
    front of it; with merge=False every adapter stays beside the base, to measure what that costs.

    All of them generate with `models.generate` and are measured with `models.loss`. Raises ArtifactError when the
    base's weights or the chat template are not those it was trained with.
    """
    info = model_info(artifact)
    check_template(info, ChatTokenizer.load(base), artifact)
    if info.kind == "full":
        return load_model(artifact.folder(WEIGHTS), dtype=dtype, trust_remote_code=model.trust_remote_code)
    check_base(info, base)
    from tunewright.models import adapters

    folder = artifact.folder(ADAPTER)
    trust = model.trust_remote_code
    return adapters.load_adapted(base, folder, dtype=dtype, trust_remote_code=trust, merge=merge)


def check_base(info: ModelInfo, base: Path) -> None:
    """Raises ArtifactError when the weights in the folder `base` are not those the adapter was trained on."""
    if source.weights_sha256(base) != info.base_sha256:
        raise ArtifactError(
            "the base model's weights are not those the adapter was trained on",
            where=str(base),
            fix=f"use the base {info.base} at revision {info.base_revision}, or train again",
        )


def check_template(info: ModelInfo, tokenizer: ChatTokenizer, artifact: Artifact) -> None:
    """Raises ArtifactError when the tokenizer's chat template is not the trained one."""
    if tokenizer.template.sha256 != info.chat_template_sha256:
        raise ArtifactError(
            "the chat template differs from the one this model was trained with",
            where=str(artifact.path),
            fix="restore the template, or train again",
        )
