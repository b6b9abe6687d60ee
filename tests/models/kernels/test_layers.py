"""Fused decoder layers in whole models: packed loss and every gradient against transformers' own layers, in fp64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from test_decoder import made
from torch import Tensor

from tunewright.models import adapters_prefix, packing
from tunewright.models.adapters_layers import decoder_layers
from tunewright.models.kernels import layers, projection
from tunewright.models.kernels.fused import fuse
from tunewright.models.kernels.head_loss import cut_head
from tunewright.models.loss import packed_loss, padded_loss
from tunewright.models.packing import ATTENTION
from tunewright.models.tokens import IGNORED, Example

FAMILIES = ["llama", "mistral", "qwen2", "qwen3", "llama biased", "llama without groups"]
EVERY = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
METHODS: dict[str, Callable[[Any], Any]] = {
    "full": lambda model: model,
    "lora q v": lambda model: with_lora(model, ["q_proj", "v_proj"]),
    "lora all": lambda model: with_lora(model, EVERY),
    "prefix": lambda model: adapters_prefix.adapt(model, [3, 1, 4]),
}


def with_lora(model: Any, targets: list[str]) -> Any:
    config = LoraConfig(r=4, target_modules=targets, init_lora_weights=False, task_type="CAUSAL_LM")
    return get_peft_model(model, config)


def examples() -> list[Example]:
    """Rows of several lengths; three of them share a start."""
    generator = torch.Generator().manual_seed(4)
    found = []
    for row, length in enumerate((9, 30, 17, 21)):
        ids = torch.randint(0, 259, (length,), generator=generator).tolist()
        start = [] if row == 1 else [5, 6, 7, 8, 9, 10, 11]
        labels = [IGNORED] * (len(start) + 3) + ids[3:]
        found.append(Example((*start, *ids), tuple(labels), str(row)))
    return found


def prepared(name: str, method: str, *, is_fused: bool) -> Any:
    model = made(name)
    model.set_attn_implementation(ATTENTION)
    if is_fused:
        fuse(model)
        cut_head(model)
    torch.manual_seed(1)
    return METHODS[method](model).double().train()


def results(model: Any, loss: Callable[..., Tensor] = packed_loss) -> dict[str, Tensor]:
    """The loss and the gradient of everything that is trained."""
    total = loss(model, examples())
    total.backward()
    trained = {name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad}
    return {"loss": total.detach(), **trained}


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, found in ours.items():
        error = (found - theirs[name]).norm() / (theirs[name].norm() + 1e-12)
        assert error < 1e-5, (name, float(error))  # norms are taken in fp32, here as in transformers


PAIRS = [(name, method) for name in FAMILIES for method in METHODS if method != "prefix" or name == "llama"]
"""A prefix goes through the cache, whatever the family."""


@pytest.mark.parametrize(("name", "method"), PAIRS)
def test_loss_and_gradients_are_transformers(name: str, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it at once, attention by products too, against padded rows of a model that nothing was done to."""
    monkeypatch.setattr(packing, "_16_BIT", (torch.float64,))
    plain = prepared(name, method, is_fused=False)
    plain.set_attn_implementation("sdpa") if method == "full" else plain.base_model.set_attn_implementation("sdpa")
    assert_same(results(prepared(name, method, is_fused=True)), results(plain, padded_loss))


@pytest.mark.parametrize("is_fused", [False, True])
def test_a_sliding_window_is_kept_to(is_fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows longer than what a token sees, behind a start that they share; attention by products would see all."""
    monkeypatch.setattr(packing, "_16_BIT", (torch.float64,))
    plain = made("mistral", sliding_window=8)
    expected = results(plain, padded_loss)
    ours = made("mistral", sliding_window=8)
    ours.set_attn_implementation(ATTENTION)
    if is_fused:
        fuse(ours)
    assert_same(results(ours), expected)
    assert abs(results(made("mistral"), padded_loss)["loss"] - expected["loss"]) > 1e-3, "the window matters"


def test_gradient_checkpointing_gives_the_same() -> None:
    found = []
    for checkpointing in (False, True):
        model = prepared("llama", "lora all", is_fused=True)
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            model.enable_input_require_grads()
        found.append(results(model))
    assert_same(*found)


def test_the_functions_are_used_where_they_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the comparisons above would compare transformers with itself."""
    counts = {"turn": 0, "project": 0, "mlp": 0}

    def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*given: Any) -> Any:
            counts[name] += 1
            return function(*given)

        return counted

    from tunewright.models.kernels import fused

    monkeypatch.setattr(layers, "turn", counting("turn", layers.turn))
    monkeypatch.setattr(layers, "project", counting("project", projection.project))
    monkeypatch.setattr(fused, "project", counting("mlp", projection.project))
    packed_loss(prepared("qwen3", "lora all", is_fused=True), examples())
    assert counts == {"turn": 3 * 2, "project": 3 * 2, "mlp": 3 * 2}, "three layers"


def test_the_last_layer_computes_the_trained_positions_alone() -> None:
    model = prepared("llama", "lora q v", is_fused=True)
    widths: list[int] = []
    for layer in decoder_layers(model):
        layer.mlp.down_proj.register_forward_hook(lambda _, inputs, output: widths.append(inputs[0].shape[1]))
    rows = examples()
    packed_loss(model, rows)
    trained = sum(row.trained for row in rows)
    assert widths[-1] == trained < widths[0] == widths[1]


def test_outside_the_packed_loss_logits_and_cache_are_transformers() -> None:
    """A fused model also generates, and takes padded rows."""
    plain, ours = made("qwen2"), made("qwen2")
    fuse(ours)
    ids = torch.randint(0, 259, (2, 11), generator=torch.Generator().manual_seed(8))
    with torch.inference_mode():
        for use_cache in (False, True):
            found, expected = (model(input_ids=ids, use_cache=use_cache).logits for model in (ours, plain))
            assert (found - expected).norm() / expected.norm() < 1e-6
        told = [model.generate(ids, max_new_tokens=5, do_sample=False, pad_token_id=0) for model in (ours, plain)]
    assert torch.equal(*told)
