"""What methods refuse, with the reason; which weights they train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tunewright.core.config import validate
from tunewright.core.errors import ConfigError
from tunewright.models.load import load_model
from tunewright.train.config import TrainConfig
from tunewright.train.methods.options import METHODS


def method(name: str, **options: Any) -> Any:
    return METHODS.target(name)(METHODS.options(name).model_validate({"name": name, **options}))


@pytest.fixture
def model(tiny: Path) -> Any:
    return load_model(tiny, dtype=torch.float32)


def trained(model: Any) -> list[str]:
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "lora", "variant": "pissa", "base_bits": 4}, "cannot be done in 4 or 8 bits"),
        ({"name": "lora", "variant": "dora", "base_bits": 8}, "use base_bits: 4"),
        ({"name": "lora", "base_bits": 2}, "base_bits: must be 4 or 8, not 2"),
        ({"name": "lora", "variant": "olora"}, "must be 'plain', 'rslora', 'dora' or 'pissa', not 'olora'"),
        ({"name": "ia3", "targets": ["k_proj"], "feedforward": ["up_proj"]}, "feedforward names up_proj"),
        ({"name": "prefix", "virtual_tokens": 0}, "greater than or equal to 1"),
        ({"name": "freeze", "layer": 2}, "did you mean 'layers'"),
        ({"name": "lore"}, "did you mean 'lora'"),
    ],
)
def test_wrong_options_are_refused_with_their_place(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        validate(TrainConfig, {"method": options}, {("method",): 3}, "p.yaml")
    assert said in str(error.value) and "p.yaml:3" in str(error.value)


@pytest.mark.parametrize("name", ["lora", "ia3"])
def test_a_target_that_is_no_layer_is_refused_even_beside_one_that_is(model: Any, name: str) -> None:
    with pytest.raises(ConfigError, match="no linear layer named v_pro") as error:
        method(name, targets=["q_proj", "v_pro"]).prepare(model)
    assert error.value.where == "train.method.targets"
    assert "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj" in error.value.fix


def test_targets_may_name_the_end_of_a_path(model: Any) -> None:
    names = trained(method("lora", targets=["layers.1.self_attn.q_proj"]).prepare(model))
    assert len(names) == 2 and all("layers.1.self_attn.q_proj.lora_" in name for name in names)


def test_ia3_scales_keys_values_and_the_inside_of_the_feed_forward(model: Any) -> None:
    """Liu et al. 2022, section 3.3: l_k, l_v and l_ff, one number a channel."""
    adapted = method("ia3").prepare(model)
    sizes = {
        name.split(".layers.1.")[1].split(".")[1]: p.numel()
        for name, p in adapted.named_parameters()
        if ".layers.1." in name and p.requires_grad
    }
    assert sizes == {"k_proj": 32, "v_proj": 32, "down_proj": 128}
    factor = next(p for name, p in adapted.named_parameters() if "layers.1.mlp.down_proj.ia3_l" in name)
    assert factor.shape == (1, 128), "on the input of down_proj, which has 128 channels"


def test_ia3_asks_for_names_where_the_model_has_others(model: Any) -> None:
    for layer in model.model.layers:
        layer.self_attn.key = layer.self_attn.k_proj
        del layer.self_attn.k_proj
    with pytest.raises(ConfigError, match="other names than Llama's") as error:
        method("ia3").prepare(model)
    assert "key, o_proj" in error.value.fix


def test_rslora_scales_by_the_square_root_of_the_rank(model: Any) -> None:
    """Kalajdzievski 2023: alpha / sqrt(r)."""
    adapted = method("lora", variant="rslora", rank=16, alpha=32, targets=["q_proj"]).prepare(model)
    assert adapted.base_model.model.model.layers[0].self_attn.q_proj.scaling["default"] == 32 / 16**0.5


def test_pissa_takes_its_start_out_of_the_base(model: Any, tiny: Path) -> None:
    """The largest singular values go, to four digits (the decomposition is a randomized one)."""
    before = load_model(tiny, dtype=torch.float32).model.layers[0].mlp.up_proj.weight
    adapted = method("lora", variant="pissa", rank=4, alpha=4, targets=["up_proj"]).prepare(model)
    rest = adapted.base_model.model.model.layers[0].mlp.up_proj.base_layer.weight
    expected = torch.linalg.svdvals(before)[4:8]
    assert torch.allclose(torch.linalg.svdvals(rest)[:4], expected, rtol=1e-3)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"layers": 1}, {"model.layers.1", "model.norm"}),
        ({"layers": 2, "norm": False}, {"model.layers.0", "model.layers.1"}),
        ({"layers": 1, "norm": False, "head": True}, {"model.layers.1", "model.embed_tokens"}),  # tied to the head
    ],
)
def test_freeze_trains_what_it_says(model: Any, options: dict[str, Any], expected: set[str]) -> None:
    names = trained(method("freeze", **options).prepare(model))
    parts = [name.split(".") for name in names]
    assert {".".join(part[: 3 if part[1] == "layers" else 2]) for part in parts} == expected


def test_freeze_wants_layers_that_are_there(model: Any) -> None:
    with pytest.raises(ConfigError, match="3 layers are to be trained, and the model has 2"):
        method("freeze", layers=3).prepare(model)


def test_the_prefix_starts_from_its_text_repeated_or_cut(model: Any) -> None:
    long = method("prefix", virtual_tokens=7, initial_text="ab").prepare(model).layers()
    again = method("prefix", virtual_tokens=3, initial_text="abababa").prepare(model).layers()
    assert long[0][0].shape == (1, 2, 7, 16)
    assert torch.allclose(long[1][1][:, :, :3], again[1][1], atol=1e-6)
    assert method("prefix", virtual_tokens=7).extra_positions == 7
