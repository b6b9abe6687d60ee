"""PEFT adapters: what their folders say, opening one unmerged, saving one."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from torch import nn

from tunewright.core import files
from tunewright.core.errors import ArtifactError
from tunewright.models import adapters_prefix, proof
from tunewright.models.load import load_model
from tunewright.models.packed_linear import KEEPS_WEIGHT
from tunewright.models.source import stored_tensors
from tunewright.models.weights import read_weights

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_PREFIX = "PREFIX_TUNING"


def peft_type(folder: Path) -> str:
    """`LORA`, `IA3`, `PREFIX_TUNING`; raises ArtifactError for a folder that holds no adapter."""
    try:
        return str(json.loads((folder / CONFIG).read_text(encoding="utf-8"))["peft_type"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ArtifactError(f"the adapter folder has no usable {CONFIG}", where=str(folder)) from None


def merges(folder: Path) -> bool:
    """Whether this adapter can become part of the base's weights; a prefix cannot, it is no change of a weight."""
    return peft_type(folder) != _PREFIX


def load_adapted(
    base: Path, folder: Path, *, dtype: torch.dtype, trust_remote_code: bool = False, merge: bool = True
) -> Any:
    """The base model in the folder `base`, adapted. Raises as `adapted` and `load_model` do."""
    return adapted(load_model(base, dtype=dtype, trust_remote_code=trust_remote_code), folder, merge=merge)


def adapted(model: Any, folder: Path, *, merge: bool = True) -> Any:
    """`model`, which is changed, with the adapter of `folder` as it is used: merged where it can be, a prefix in front;
    with merge=False beside the base. In evaluation mode, ready for the engine.

    Raises ArtifactError when the adapter's file is no safetensors file, or does not hold exactly the adapter's weights
    (peft only warns and leaves the rest at its start, so that the model stays the base).
    """
    opened = _open(model, folder)
    if merge and merges(folder):
        return opened.merge_and_unload().eval()
    _keep_plain(opened)
    return opened


def _open(model: Any, folder: Path) -> Any:
    stored = folder / WEIGHTS
    is_prefix = peft_type(folder) == _PREFIX
    if not stored.exists():
        problem = f"the adapter folder has no {WEIGHTS}"
        raise ArtifactError(problem, where=str(folder), fix="give the folder that training wrote")
    read_weights([stored], dtype=torch.float32)  # proves that they are numbers; an adapter is small
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of missing weights: an error below
        opened: Any = (
            adapters_prefix.load(model, folder) if is_prefix else PeftModel.from_pretrained(model, str(folder))
        )
    known, found = set(get_peft_model_state_dict(opened, save_embedding_layers=False)), set(stored_tensors(stored))
    loading = {"missing_keys": known - found, "unexpected_keys": found - known, "mismatched_keys": ()}
    proof.prove_complete(loading, str(folder))
    return opened.eval()


def _keep_plain(opened: Any) -> None:
    """Marks the linear layers whose weight PEFT reads in its forward pass: prepacking them would take it away."""
    for module in opened.modules():
        if isinstance(module, nn.ModuleDict):  # lora_A, lora_B
            for child in module.children():
                setattr(child, KEEPS_WEIGHT, True)
        if getattr(module, "lora_magnitude_vector", None):  # DoRA measures the base's columns
            setattr(module.base_layer, KEEPS_WEIGHT, True)


def save_adapter(model: Any, target: Path, *, base: str, revision: str) -> None:
    """A standard PEFT folder that names the base as the project file does, not a path of this machine."""
    for settings in model.peft_config.values():
        settings.base_model_name_or_path = base
        settings.revision = revision
    with files.disk_errors(target):
        model.save_pretrained(str(target), safe_serialization=True, save_embedding_layers=False)
    (target / "README.md").unlink(missing_ok=True)  # peft's model card template is empty
    (target / adapters_prefix.PROJECTION).unlink(missing_ok=True)  # only resuming needs it
