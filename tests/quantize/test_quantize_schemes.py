"""Every scheme on the tiny model: it round-trips, its error is what its bits allow, the model stays as it was."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from quantize_kit import examples, logits, relative_error, spread, written
from safetensors.torch import load_file

from tunewright.models.compressed import load_compressed, round_input
from tunewright.models.load import load_model
from tunewright.quantize.compressor import calibration_batches
from tunewright.quantize.loaded import round_to_16_bits
from tunewright.quantize.scheme import QuantizeError, group_size_for, inner_linears
from tunewright.quantize.variants import open_folder

AWQ = {"name": "awq", "grid": 4}


@pytest.fixture(scope="module")
def model(tiny: Path) -> Any:
    """Weights that bfloat16 holds exactly, so that 16-bit storage is no part of the error."""
    return round_to_16_bits(spread(load_model(tiny, dtype=torch.float32)), "bf16")


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("bf16", 0.0, 0.0),
        ("int8", 0.01, 0.06),
        ("int8-weight", 0.005, 0.04),
        ("awq", 0.1, 0.5),
        ("gptq", 0.1, 0.5),
        ("nf4", 0.1, 0.5),
    ],
)
def test_the_error_of_reloaded_logits_is_what_the_bits_allow(
    name: str, low: float, high: float, model: Any, tiny: Path, tmp_path: Path
) -> None:
    """Bounds: rounding to b bits with the range set by the largest of n normal values costs about
    2 * 2.5 / (2^b sqrt(12)) of their deviation: 0.6 % at 8 bits, for weights and again for activations, 9 % at 4 bits.
    Fourteen layers, seven deep in sequence, make it three to six times as much. Measured: 0, 0.033, 0.33."""
    options = {"grid": 4} if name == "awq" else {}
    if name == "nf4":
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    scheme, _ = written(name, model, tiny, tmp_path / name, **options)
    error = relative_error(logits(open_folder(scheme, tmp_path / name, runtime=torch.float32)), logits(model))
    assert low <= error <= high, error


def test_int8_stores_one_byte_a_weight_and_keeps_the_head(model: Any, tiny: Path, tmp_path: Path) -> None:
    written("int8", model, tiny, tmp_path / "int8")
    stored = load_file(tmp_path / "int8" / "model.safetensors")
    assert stored["model.layers.0.mlp.up_proj.weight"].dtype == torch.int8
    assert stored["model.layers.0.mlp.up_proj.weight"].shape == (128, 64)
    assert stored["model.embed_tokens.weight"].dtype == torch.bfloat16
    assert "lm_head.weight" not in stored  # tied: stored once
    weight = model.model.layers[0].mlp.up_proj.weight.detach()
    scale = stored["model.layers.0.mlp.up_proj.weight_scale"].float()
    back = stored["model.layers.0.mlp.up_proj.weight"].float() * scale
    assert float(((back - weight) / scale).abs().max()) < 1.0  # clipped at 127 it is up to one step, else half


def test_the_folder_says_what_engines_need_to_know(model: Any, tiny: Path, tmp_path: Path) -> None:
    _, facts = written("awq", model, tiny, tmp_path / "awq", grid=3)
    config = json.loads((tmp_path / "awq" / "config.json").read_text())
    quantization = config["quantization_config"]
    assert (quantization["quant_method"], quantization["format"]) == ("compressed-tensors", "pack-quantized")
    assert quantization["ignore"] == ["lm_head"]
    weights = quantization["config_groups"]["group_0"]["weights"]
    assert (weights["num_bits"], weights["group_size"], weights["symmetric"]) == (4, 64, False)
    assert config["dtype"] == "bfloat16"
    assert facts["group_size"] == 64  # 128 does not divide the hidden size of 64
    assert (tmp_path / "awq" / "tokenizer.json").samefile(tiny / "tokenizer.json")


def test_awq_beats_plain_rounding_and_needs_rows(model: Any, tiny: Path, tmp_path: Path) -> None:
    """The point of AWQ: some channels see activations far larger than the others; scales protect their weights."""
    outliers = copy.deepcopy(model)
    with torch.no_grad():
        for layer in outliers.model.layers:
            layer.input_layernorm.weight[:4] *= 60
            layer.post_attention_layernorm.weight[:4] *= 60
    scheme, _ = written("awq", outliers, tiny, tmp_path / "awq", grid=8)
    awq = relative_error(logits(open_folder(scheme, tmp_path / "awq", runtime=torch.float32)), logits(outliers))
    plain = copy.deepcopy(outliers)
    with torch.no_grad():
        for layer in inner_linears(plain).values():
            layer.weight.copy_(_rounded_to_4_bits(layer.weight, 64))
    assert awq < 0.8 * relative_error(logits(plain), logits(outliers))
    with pytest.raises(QuantizeError, match="awq needs calibration rows"):
        scheme.write(outliers, tiny, tmp_path, calibration=[])


def _rounded_to_4_bits(weight: torch.Tensor, group: int) -> torch.Tensor:
    """Round to nearest with a scale and a zero point a group: what AWQ does with all scales at 1."""
    groups = weight.reshape(-1, group)
    low, high = groups.amin(1, keepdim=True).clamp(max=0), groups.amax(1, keepdim=True).clamp(min=0)
    step = (high - low) / 15
    zero = (-low / step).round()
    return (((groups / step + zero).round().clamp(0, 15) - zero) * step).reshape(weight.shape)


def test_calibration_batches_hold_every_token_once_and_mask_the_padding() -> None:
    rows = examples(count=5, length=20)
    batches = calibration_batches(rows, max_tokens=40)
    found = sorted(
        tuple(ids[mask == 1].tolist())
        for batch in batches
        for ids, mask in zip(batch["input_ids"], batch["loss_mask"], strict=True)
    )
    assert found == sorted(row.input_ids for row in rows)
    assert all(batch["input_ids"].numel() <= 40 for batch in batches)


def test_padding_changes_nothing_that_awq_sees(model: Any, tiny: Path, tmp_path: Path) -> None:
    """Rows of unequal length in one batch or each alone: the same integers and scales."""
    import tunewright.quantize.schemes.awq as awq_file

    stored = {}
    for name, size in (("together", 1024), ("alone", 1)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                awq_file, "calibration_batches", lambda rows, size=size: calibration_batches(rows, max_tokens=size)
            )
            written("awq", model, tiny, tmp_path / name, grid=4)
        stored[name] = load_file(tmp_path / name / "model.safetensors")
    for key, value in stored["together"].items():
        assert torch.equal(value, stored["alone"][key]), key


@pytest.mark.parametrize(
    ("widths", "wanted", "right"), [([576, 1536], 128, 64), ([4096, 11008], 128, 128), ([64], 100, 64)]
)
def test_group_size(widths: list[int], wanted: int, right: int) -> None:
    assert group_size_for(widths, wanted) == right


def test_no_group_size_is_refused() -> None:
    with pytest.raises(QuantizeError, match=r"widths \[24, 64\] have no common group size"):
        group_size_for([24, 64, 24], 128)


def test_packed_layers_compute_what_compressed_tensors_computes(model: Any, tiny: Path, tmp_path: Path) -> None:
    for name in ("int8", "awq"):
        written(name, model, tiny, tmp_path / name, **({"grid": 3} if name == "awq" else {}))
        fast = logits(load_compressed(tmp_path / name, dtype=torch.float32))
        plain = logits(load_compressed(tmp_path / name, dtype=torch.float32, pack=False))
        torch.testing.assert_close(fast, plain, rtol=1e-3, atol=1e-3)


def test_inputs_are_rounded_a_token() -> None:
    """By hand: 255 makes the step 255/127.5 = 2. 255 is 127.5 steps, rounded to the even 128 and clipped to 127;
    -255 is -127.5, rounded to -128; 3 is 1.5, rounded to 2. A row of zeros stays zero."""
    found = round_input(torch.tensor([[[255.0, -255.0, 3.0], [0.0, 0.0, 0.0]]]))
    assert found.tolist() == [[[254.0, -256.0, 4.0], [0.0, 0.0, 0.0]]]
