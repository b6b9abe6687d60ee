"""A change of the same shape and size as the trained one, with nothing learned in it: what training must beat."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from tunewright.models.adapters import WEIGHTS

_AROUND_ZERO = ("lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B", "prompt_embeddings")
_AROUND_ONE = ("ia3_l",)
_MOST = 2.0
"""How many times larger than the trained one a random LoRA's change of a weight may be."""


def write_random_adapter(adapter: Path, target: Path, *, seed: int) -> None:
    """A copy of a PEFT folder in the new folder `target` whose trained tensors are noise of the same Frobenius norm:
    LoRA's matrices and a prefix around zero, IA3's vectors around one.

    Beating a wreck shows nothing. So tensors of other kinds (DoRA's magnitudes, whole layers) stay as they are, and a
    LoRA whose parts cancel each other (PiSSA's) gets a smaller B, where noise would change the weights far more.
    """
    shutil.copytree(adapter, target, ignore=shutil.ignore_patterns("*.safetensors"))
    with safe_open(str(adapter / WEIGHTS), framework="pt") as handle:
        metadata = handle.metadata()
    generator = torch.Generator().manual_seed(seed)
    tensors = load_file(str(adapter / WEIGHTS))
    made = {name: _random_like(name, tensors[name], generator) for name in sorted(tensors)}
    for name in [name for name in made if name.endswith("lora_B.weight")]:
        _bound(name, made, tensors)
    save_file(made, str(target / WEIGHTS), metadata=metadata)


def _bound(name: str, made: dict[str, Tensor], trained: dict[str, Tensor]) -> None:
    """name: of a LoRA's B, [out, r]; its A is [r, in]."""
    partner = name.replace("lora_B", "lora_A")
    sizes = [_product_norm(tensors[name].double(), tensors[partner].double()) for tensors in (made, trained)]
    if sizes[0] > _MOST * sizes[1] > 0:
        made[name] = made[name] * (sizes[1] / sizes[0])


def _product_norm(b: Tensor, a: Tensor) -> float:
    """Frobenius norm of b @ a, by way of [r, r] matrices only."""
    return float(((b.T @ b) * (a @ a.T)).sum().clamp(min=0).sqrt())


def _random_like(name: str, trained: Tensor, generator: torch.Generator) -> Tensor:
    if any(part in name for part in _AROUND_ONE):
        return (1 + noise_like(trained.float() - 1, generator)).to(trained.dtype)
    if any(part in name for part in _AROUND_ZERO):
        return noise_like(trained.float(), generator).to(trained.dtype)
    return trained


def noise_like(trained: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian noise with the shape and the Frobenius norm of `trained`. Float32, on the CPU."""
    noise = torch.randn(trained.shape, generator=generator)
    size = noise.norm()
    return noise * (trained.norm().cpu() / size) if size > 0 else noise


@torch.no_grad()
def randomize(base: Any, tuned: Any, *, seed: int) -> None:
    """Adds to every weight of `base`, in place, what training changed of it in `tuned`, in a random order and with
    random signs: the same norm, and in bf16 the same steps, where even noise would be rounded away.

    base, tuned: two models of one kind, on one device.
    """
    generator = torch.Generator().manual_seed(seed)
    trained = dict(tuned.named_parameters())
    for name, weight in base.named_parameters():
        change = (trained[name].float() - weight.float()).flatten()
        if not bool(change.any()):
            continue
        order = torch.randperm(len(change), generator=generator).to(change.device)
        signs = torch.randint(0, 2, (len(change),), generator=generator).to(change.device) * 2 - 1
        weight.copy_((weight.float().flatten() + change[order] * signs).view(weight.shape))
