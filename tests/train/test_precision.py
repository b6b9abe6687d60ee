"""Number formats: chosen by hardware and method, said with the reason, and no small update is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tunewright.core.errors import ConfigError
from tunewright.models import load
from tunewright.models.load import load_model
from tunewright.train import precision


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [((9, 0), torch.bfloat16), ((8, 0), torch.bfloat16), ((7, 5), torch.float16), ((6, 1), torch.float32)],
)
def test_a_gpu_gets_the_format_it_multiplies(capability: tuple[int, int], dtype: torch.dtype) -> None:
    chosen, reason = load._auto_on_gpu(capability)
    assert chosen == dtype
    assert reason.startswith("auto: this GPU")


@pytest.mark.skipif(torch.cuda.is_available(), reason="about a machine without a GPU")
def test_float16_is_refused_where_nothing_scales_the_loss() -> None:
    with pytest.raises(ConfigError, match="training in float16 needs a CUDA GPU") as caught:
        precision.choose("float16", kind="adapter")
    assert "bfloat16" in caught.value.fix


def test_whole_weights_get_masters_and_adapters_do_not() -> None:
    whole, adapter = (precision.choose("bfloat16", kind=kind) for kind in ("full", "adapter"))
    assert (whole.autocast, whole.has_masters) == ("bf16", True)
    assert "kept in float32, so that small updates are not lost, and saved in bfloat16" in whole.sentence()
    assert (adapter.autocast, adapter.has_masters) == ("", False)
    assert adapter.sentence() == "in bfloat16 (as model.dtype says)"
    assert precision.choose("float32", kind="full").autocast == ""


def test_a_small_update_survives_in_a_master_and_not_in_bfloat16(tiny: Path) -> None:
    model = load_model(tiny, dtype=torch.bfloat16)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("layers.1" in name)
    before = model.model.layers[1].mlp.up_proj.weight.detach().clone()
    assert torch.equal((before + before * 1e-3), before)
    precision.raise_trained(model)
    frozen, trained = model.model.layers[0].mlp.up_proj.weight, model.model.layers[1].mlp.up_proj.weight
    assert (frozen.dtype, trained.dtype) == (torch.bfloat16, torch.float32)
    with torch.no_grad():
        for _ in range(8):
            trained.add_(before.float() * 1e-3)
    precision.lower(model, torch.bfloat16)
    assert model.model.layers[1].mlp.up_proj.weight.dtype == torch.bfloat16
    assert not torch.equal(model.model.layers[1].mlp.up_proj.weight, before)


def test_tied_weights_stay_tied(tiny: Path) -> None:
    model = load_model(tiny, dtype=torch.bfloat16)
    precision.raise_trained(model)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.lm_head.weight.dtype == torch.float32
    precision.lower(model, torch.bfloat16)
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
