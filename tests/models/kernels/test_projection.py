"""Layers that share an input, with and without a LoRA, against the modules: outputs and gradients in fp64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from tunewright.models.kernels.projection import project, projections_of
from tunewright.models.load import load_model

NAMES = ["q_proj", "k_proj", "v_proj"]


def attention_of(tiny: Path, dtype: torch.dtype = torch.float64, **lora: Any) -> Any:
    """The first attention layer of the tiny model; with `targets`, beside a LoRA that does something."""
    model = load_model(tiny, dtype=dtype).requires_grad_(False)
    if "target_modules" in lora:
        model = get_peft_model(model, LoraConfig(r=4, lora_alpha=12, init_lora_weights=False, **lora))
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.data = weight.data.to(dtype) if dtype == torch.float64 else weight.data
    return next(module for module in model.train().modules() if hasattr(module, "q_proj"))


def results(outputs: tuple[Tensor, ...], leaves: list[Tensor]) -> list[Tensor | None]:
    """Outputs, and the gradients of a fixed weighting of them."""
    total = sum((output * torch.linspace(-1, 2, output.numel()).view(output.shape)).sum() for output in outputs)
    assert isinstance(total, Tensor)
    return [*(output.detach() for output in outputs), *torch.autograd.grad(total, leaves, allow_unused=True)]


@pytest.mark.parametrize("targets", [NAMES, ["q_proj", "v_proj"], ["k_proj"], []], ids=str)
@pytest.mark.parametrize("wants_input", [True, False])
def test_outputs_and_gradients_are_the_modules(tiny: Path, targets: list[str], wants_input: bool) -> None:
    layer = attention_of(tiny, target_modules=targets) if targets else attention_of(tiny)
    layers = [getattr(layer, name) for name in NAMES]
    x = torch.randn(1, 7, layer.config.hidden_size, dtype=torch.float64).requires_grad_(wants_input)
    weights = [weight for name, weight in layer.named_parameters() if "lora_" in name]
    leaves = [*([x] if wants_input else []), *weights]
    if not leaves:
        return
    found = projections_of(layers, x)
    assert found is not None
    ours, theirs = results(project(x, found), leaves), results(tuple(one(x) for one in layers), leaves)
    for one, other in zip(ours, theirs, strict=True):
        assert one is not None and other is not None and one.shape == other.shape
        assert torch.allclose(one, other, atol=1e-12)


def test_a_bias_is_added() -> None:
    layer = nn.Linear(6, 5).double().requires_grad_(False)
    x = torch.randn(3, 6, dtype=torch.float64)
    found = projections_of([layer], x)
    assert found is not None and torch.allclose(project(x, found)[0], layer(x))


def test_gradients_have_the_format_of_their_weights(tiny: Path) -> None:
    """The base in 16 bits, the LoRA in 32, as peft keeps it; nearly what peft computes in fp32."""
    layer = attention_of(tiny, torch.bfloat16, target_modules=NAMES)
    layers = [getattr(layer, name) for name in NAMES]
    x = torch.randn(1, 50, layer.config.hidden_size, dtype=torch.bfloat16).requires_grad_()
    leaves = [x, *(weight for name, weight in layer.named_parameters() if "lora_" in name)]
    assert {leaf.dtype for leaf in leaves[1:]} == {torch.float32}
    found = projections_of(layers, x)
    assert found is not None
    ours, theirs = results(project(x, found), leaves), results(tuple(one(x) for one in layers), leaves)
    for one, other in zip(ours, theirs, strict=True):
        assert one is not None and other is not None and one.dtype == other.dtype
        assert (one - other).double().norm() <= 0.01 * other.double().norm()


def test_what_is_more_than_this_is_called_as_a_module(tiny: Path) -> None:
    x = torch.randn(1, 3, 64, dtype=torch.float64)
    plain = attention_of(tiny, target_modules=NAMES)
    assert projections_of([plain.q_proj, plain.k_proj], x) is not None
    assert projections_of([plain.q_proj], x.float()) is None, "another format"
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert projections_of([plain.q_proj], x) is None, "autocast chooses formats itself"
    dropping = attention_of(tiny, target_modules=NAMES, lora_dropout=0.5)
    assert projections_of([dropping.q_proj], x) is None, "dropout"
    assert projections_of([dropping.eval().q_proj], x) is not None, "no dropout outside training"
    assert projections_of([attention_of(tiny, target_modules=NAMES, use_dora=True).q_proj], x) is None, "DoRA"
    plain.q_proj.lora_B["default"].bias = nn.Parameter(torch.zeros(64, dtype=torch.float64))
    assert projections_of([plain.q_proj], x) is None, "a LoRA with a bias"
    plain.q_proj.lora_B["default"].bias = None
    plain.v_proj.base_layer.weight.requires_grad_()
    assert projections_of([plain.v_proj], x) is None, "a trained base"
    plain.k_proj.register_forward_hook(lambda *_: None)
    assert projections_of([plain.k_proj], x) is None, "a hook must be called"
    plain.q_proj.base_layer.weight.data = torch.empty(0, dtype=torch.float64)
    assert projections_of([plain.q_proj], x) is None, "weights that are elsewhere (ZeRO-3)"


def test_switched_off_and_merged_adapters_add_nothing(tiny: Path) -> None:
    layer = attention_of(tiny, target_modules=NAMES)
    x = torch.randn(1, 3, 64, dtype=torch.float64)
    layer.q_proj.enable_adapters(False)
    layer.k_proj.merge()
    found = projections_of([layer.q_proj, layer.k_proj], x)
    assert found is not None and all(one.low is None for one in found)
    for one, module in zip(project(x, found), (layer.q_proj, layer.k_proj), strict=True):
        assert torch.allclose(one, module(x), atol=1e-12)
