"""LoRA on a base in 4 and 8 bits."""

from __future__ import annotations

import json
import shutil
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from tunewright.core.errors import ArtifactError, MissingExtraError
from tunewright.models import adapters_base
from tunewright.models.adapters import load_adapted
from tunewright.models.kernels.fused import fuse
from tunewright.models.kernels.projection import projections_of
from tunewright.models.load import load_model
from tunewright.models.loss import packed_loss
from tunewright.models.packing import ATTENTION
from tunewright.models.tokens import IGNORED, Example
from tunewright.train.methods.lora import Lora
from tunewright.train.methods.options import LoraOptions

IDS = (257, *range(60, 90), 258)
ROW = Example(IDS, (IGNORED, *IDS[1:]), "row")
installed = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")


def test_without_the_library_the_extra_is_named(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters_base, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="base_bits=4 needs the library 'bitsandbytes'") as error:
        adapters_base.load_base(tiny, bits=4, dtype=torch.float32)
    assert "pip install 'tunewright[bits]'" in error.value.fix


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=torch.tensor([IDS])).logits[0].float()
    return found


@installed
@pytest.mark.parametrize(("bits", "dtype"), [(4, torch.float32), (4, torch.bfloat16), (8, torch.bfloat16)])
def test_the_base_is_small_and_near(tiny: Path, bits: Any, dtype: torch.dtype) -> None:
    base = adapters_base.load_base(tiny, bits=bits, dtype=dtype)
    layer = base.model.layers[0].mlp.up_proj
    assert layer.weight.numel() * layer.weight.itemsize == 64 * 128 * bits // 8
    assert base.model.norm.weight.dtype == base.get_input_embeddings().weight.dtype == dtype
    exact, rounded = logits(load_model(tiny, dtype=torch.float32)), logits(base)
    error = float((rounded - exact).norm() / exact.norm())
    assert 0 < error < (0.2 if bits == 4 else 0.05)


def dequantized(base: Any, tiny: Path) -> Any:
    """A plain float32 model with the rounded weights."""
    functional = import_module("bitsandbytes.functional")
    plain = load_model(tiny, dtype=torch.float32)
    for name, module in base.named_modules():
        if type(module).__name__ == "Linear4bit":
            plain.get_submodule(name).weight.data = functional.dequantize_4bit(
                module.weight.data, module.weight.quant_state
            )
        elif type(module).__name__ == "Linear8bitLt":
            scale = module.weight.SCB if module.state.SCB is None else module.state.SCB
            plain.get_submodule(name).weight.data = module.weight.data.float() * scale[:, None] / 127
    return plain


@installed
@pytest.mark.parametrize(("bits", "fused"), [(4, False), (4, True), (8, False), (8, True)])
def test_gradients_after_an_evaluation_are_those_of_the_rounded_weights(tiny: Path, bits: Any, fused: bool) -> None:
    """8 bits round the activations as well. fused: by models/kernels, which unpack 4 bits themselves."""
    base = adapters_base.load_base(tiny, bits=bits, dtype=torch.float32)
    if fused:
        fuse(base)
        own = base.model.layers[0].mlp.up_proj
        assert (projections_of([own], torch.empty(1, 64)) is not None) == (bits == 4)
    plain = dequantized(base, tiny)
    gradients = []
    for model in (plain, base):
        torch.manual_seed(4)
        method = Lora(LoraOptions(rank=4) if model is plain else LoraOptions(rank=4, base_bits=bits))
        model.set_attn_implementation(ATTENTION)
        adapted = method.prepare(model)
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.05)
        adapted.eval()
        with torch.no_grad():
            packed_loss(adapted, [ROW])
        packed_loss(adapted.train(), [ROW]).backward()
        gradients.append({name: p.grad for name, p in adapted.named_parameters() if p.requires_grad})
    for name, expected in gradients[0].items():
        error = float((gradients[1][name] - expected).norm() / expected.norm())
        assert error < (1e-4 if bits == 4 else 0.05), name


@installed
@pytest.mark.parametrize(("bits", "variant"), [(4, "plain"), (8, "plain"), (4, "dora")])
def test_an_adapter_learns_on_it_and_opens_on_the_plain_base(
    tiny: Path, tmp_path: Path, bits: Any, variant: Any
) -> None:
    method = Lora(LoraOptions(base_bits=bits, variant=variant, rank=4))
    assert method.base_bits == bits
    base = adapters_base.load_base(tiny, bits=bits, dtype=torch.float32)
    base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    base.enable_input_require_grads()
    base.set_attn_implementation(ATTENTION)
    adapted = method.prepare(base).train()
    weights = {name: weight for name, weight in adapted.named_parameters() if weight.requires_grad}
    assert all(weight.dtype == torch.float32 for weight in weights.values())
    optimizer = torch.optim.AdamW(weights.values(), lr=1e-2)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = packed_loss(adapted, [ROW])
        loss.backward()
        assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in weights.values())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.95 * losses[0]
    method.save(adapted, tmp_path / "adapter", base="some/base", revision="main", tokenizer_from=tiny)
    merged = load_adapted(tiny, tmp_path / "adapter", dtype=torch.float32)
    merged.set_attn_implementation(ATTENTION)
    with torch.inference_mode():
        found = packed_loss(merged, [ROW]).item()
    assert found == pytest.approx(losses[-1], rel=0.25), "the base in its own format, near the rounded one"
    assert found < 0.97 * losses[0]


@installed
def test_unreadable_weights_are_an_artifact_error(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((tiny / "config.json").read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(ArtifactError, match="cannot be loaded in 4 bits"):
        adapters_base.load_base(tmp_path, bits=4, dtype=torch.float32)


@installed
def test_what_every_model_must_show_is_asked_of_it_too(tiny: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "endless"))
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings["chat_template"] = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}{% endfor %}"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(ArtifactError, match="the template writes no end token behind turn 2"):
        adapters_base.load_base(folder, bits=4, dtype=torch.float32)
