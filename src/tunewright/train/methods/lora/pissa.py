"""PiSSA (Meng et al. 2024, arXiv 2404.02948): the adapter starts as the base's largest singular vectors, which are
taken out of the base. Saved as the difference to that start, which is a plain LoRA of twice the rank for the base as it
was: W_rest + s B A = W + s (B A - B0 A0) = W + s [B, -B0] [A; A0].
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor

from tunewright.core import files
from tunewright.models.adapters import CONFIG, WEIGHTS

START = "pissa_niter_16"
"""A randomized decomposition with 16 iterations: seconds where the exact one takes an hour for 7 billion weights, and
nearly as good by the article's own comparison. It need not be exact: what is left over stays in the base."""

_FORMAT = {"format": "pt"}
"""What transformers and peft look for in a file's header."""


@contextmanager
def same_everywhere() -> Iterator[None]:
    """The decomposition draws random numbers; with the same ones a resumed training finds the same rest of the base,
    to which the checkpoint's adapter belongs."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def state_of(adapted: Any) -> dict[str, Tensor]:
    """A copy of the adapter's matrices by their names in its file."""
    state = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}


def make_plain(folder: Path, initial: Mapping[str, Tensor]) -> None:
    """Rewrites the saved adapter in `folder` as plain LoRA. initial: what `state_of` gave before training."""
    weights = load_file(folder / WEIGHTS)
    save_file({name: _joined(name, weights[name], initial[name]) for name in weights}, folder / WEIGHTS, _FORMAT)
    settings = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    changes = {"r": 2 * settings["r"], "lora_alpha": 2 * settings["lora_alpha"], "init_lora_weights": True}
    files.write_json(folder / CONFIG, settings | changes)


def _joined(name: str, trained: Tensor, initial: Tensor) -> Tensor:
    """A: [r, in] -> [2 r, in]; B: [out, r] -> [out, 2 r], so that the product is the difference."""
    initial = initial.to(trained.dtype)
    return torch.cat([trained, initial]) if ".lora_A." in name else torch.cat([trained, -initial], dim=1)
