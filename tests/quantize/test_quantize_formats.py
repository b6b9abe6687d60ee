"""Sizes are predicted from shapes, files are what their format's documentation says, and the model is let go."""

from __future__ import annotations

import copy
import gc
import json
import weakref
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from quantize_kit import examples, logits, relative_error, spread, written
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from tunewright.core.errors import MissingExtraError
from tunewright.models import tiny as tiny_model
from tunewright.models.load import load_model
from tunewright.models.tuned import INFO
from tunewright.quantize import ggml
from tunewright.quantize.config import SCHEMES, AwqOptions, GptqOptions
from tunewright.quantize.gguf_file import fill_from
from tunewright.quantize.loaded import Probe, round_to_16_bits
from tunewright.quantize.measure import weight_bytes
from tunewright.quantize.scheme import QuantizeError, group_size_for
from tunewright.quantize.shapes import DEEPSEEK_7B, llama_shapes, planned_shapes, shapes_of
from tunewright.quantize.variants import check_all, open_folder, scheme_of

ALL = ["bf16", "fp16", "int8", "int8-weight", "awq", "gptq", "nf4", "gguf-q8_0", "gguf-q4_0", "gguf-q4_k_m"]
COMPRESSED = {"int8": ("int-quantized", 8), "int8-weight": ("pack-quantized", 8)}
COMPRESSED |= dict.fromkeys(("awq", "gptq"), ("pack-quantized", 4))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untied Llama of 3 M weights: large enough that headers weigh little."""
    folder = tmp_path_factory.mktemp("small")
    tiny_model.write_tokenizer(folder)
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=259,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=False,
        bos_token_id=257,
        eos_token_id=258,
        pad_token_id=256,
    )
    model: Any = LlamaForCausalLM(config)
    spread(model).to(torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def made(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Any, Path]]]:
    """Every variant of the small model, made once."""
    model, root = load_model(small, dtype=torch.bfloat16), tmp_path_factory.mktemp("variants")
    names = [name for name in ALL if name != "nf4" or find_spec("bitsandbytes")]
    options = {"awq": {"grid": 3}}
    yield {n: (written(n, model, small, root / n, **options.get(n, {}))[0], root / n) for n in names}


@pytest.mark.parametrize("name", ALL)
def test_the_size_is_predicted_from_the_config_within_two_percent(
    name: str, made: dict[str, tuple[Any, Path]], small: Path
) -> None:
    if name not in made:
        pytest.skip("bitsandbytes is not installed")
    scheme, folder = made[name]
    assert scheme.predicted_bytes(planned_shapes(small)) == pytest.approx(weight_bytes(folder), rel=0.02)


def test_every_scheme_is_tested_here() -> None:
    assert sorted(ALL) == sorted(SCHEMES.entries)


def test_planned_shapes_are_the_models_own(small: Path, tiny: Path) -> None:
    for folder in (small, tiny):
        assert planned_shapes(folder) == shapes_of(load_model(folder, dtype=torch.float32))
    by_hand = llama_shapes(hidden=256, intermediate=512, layers=4, vocabulary=259, tied=False, key_values=128)
    assert by_hand.linears == planned_shapes(small).linears and by_hand.weights == planned_shapes(small).weights


def test_the_target_is_predicted_as_its_facts_say() -> None:
    """deepseek-llm-7b-chat: 6,910,365,696 weights; GB by its config: 13.82, 7.75, 4.83 (AWQ, groups of 128). GGUF by
    hand: 6.071 G linear weights at 18/32 bytes, 0.419 G embeddings at 18/32, the head at 210/256: 3.997 GB."""
    assert DEEPSEEK_7B.weights == 6_910_365_696
    sizes = {name: scheme_of(SCHEMES.options(name)(name=name)).predicted_bytes(DEEPSEEK_7B) / 1e9 for name in ALL}
    wanted = {"bf16": 13.82, "int8": 7.75, "awq": 4.83, "gguf-q4_0": 3.997 if ggml.has_native() else 4.098}
    for name, gigabytes in wanted.items():
        assert sizes[name] == pytest.approx(gigabytes, rel=0.005), name
    assert sizes["gguf-q4_0"] < sizes["gguf-q4_k_m"] < sizes["awq"] < sizes["int8"] < sizes["bf16"]


@pytest.mark.parametrize("name", COMPRESSED)
def test_the_folder_keeps_the_schema_of_compressed_tensors(name: str, made: dict[str, tuple[Any, Path]]) -> None:
    """What vLLM reads: the config by the library's own schema, and each layer's tensors by name, type and shape."""
    from compressed_tensors.quantization import QuantizationConfig

    _, folder = made[name]
    stored = json.loads((folder / "config.json").read_text())["quantization_config"]
    config = QuantizationConfig.model_validate(
        {k: v for k, v in stored.items() if k in QuantizationConfig.model_fields}
    )
    (group,) = config.config_groups.values()
    assert (stored["format"], group.weights.num_bits) == COMPRESSED[name]
    assert config.ignore == ["lm_head"] and group.targets == ["Linear"]
    assert (group.input_activations is not None) == (name == "int8")
    tensors = load_file(folder / "model.safetensors")
    layer = {key.rpartition(".")[2]: tensor for key, tensor in tensors.items() if ".1.mlp.down_proj." in key}
    kinds = {key: (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)) for key, tensor in layer.items()}
    packed = {
        "int8": {"weight": ("int8", (256, 512)), "weight_scale": ("bfloat16", (256, 1))},
        "int8-weight": {"weight_packed": ("int32", (256, 128)), "weight_scale": ("bfloat16", (256, 1))},
    }
    grouped = {"weight_packed": ("int32", (256, 64)), "weight_scale": ("bfloat16", (256, 4))}
    wanted = packed.get(name, grouped | {"weight_zero_point": ("int32", (32, 4))})
    shape = {} if name == "int8" else {"weight_shape": ("int64", (2,))}
    assert kinds == wanted | shape
    assert "weight" in {key.rpartition(".")[2] for key in tensors if key.startswith("lm_head")}


@pytest.mark.parametrize("name", ["int8-weight", "gptq", "nf4", "gguf-q4_k_m"])
def test_what_is_read_back_is_the_tuned_model(name: str, made: dict[str, tuple[Any, Path]], small: Path) -> None:
    """Measured: 0.013, 0.16, 0.14, 0.10. Another model (here one matrix with its rows turned round) is refused."""
    if name not in made:
        pytest.skip("bitsandbytes is not installed")
    scheme, folder = made[name]
    model = load_model(small, dtype=torch.bfloat16)
    probe = Probe.of(model, range(40, 80))

    def back() -> Any:
        if name.startswith("gguf"):
            return fill_from(folder / "model.gguf", load_model(small, dtype=torch.bfloat16))
        return open_folder(scheme, folder, runtime=torch.bfloat16)

    low, high = (0.002, 0.05) if name == "int8-weight" else (0.05, 0.8)
    error = probe.prove(back(), name=name, bits=scheme.bits, where=folder)
    assert low < error < high, error
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.down_proj.weight.copy_(layer.mlp.down_proj.weight.flip(0))
    with pytest.raises(QuantizeError, match=f"{name} computes another model when it is read back: its logits differ"):
        probe.prove(model, name=name, bits=scheme.bits, where=folder)


def test_gptq_beats_plain_rounding_and_needs_rows(tiny: Path, tmp_path: Path) -> None:
    """Its point: with inputs that go together, later columns make up for the errors of earlier ones. The calibration
    rows are those that are asked, so the statistics fit."""
    model = round_to_16_bits(spread(load_model(tiny, dtype=torch.float32)), "bf16")
    rows = examples(count=6, length=120)
    right = [logits(model, row.input_ids) for row in rows]
    error = {}
    for name, given in (("gptq", rows), ("plain", [])):
        if given:
            scheme, target = scheme_of(GptqOptions()), tmp_path / name
            target.mkdir()
            scheme.write(copy.deepcopy(model), tiny, target, calibration=given)
            back = open_folder(scheme, target, runtime=torch.float32)
        else:
            back = _rounded(copy.deepcopy(model))
        error[name] = sum(
            relative_error(logits(back, row.input_ids), good) for row, good in zip(rows, right, strict=True)
        )
    assert error["gptq"] < 0.9 * error["plain"], error
    with pytest.raises(QuantizeError, match="gptq needs calibration rows"):
        scheme_of(GptqOptions()).write(model, tiny, tmp_path, calibration=[])


def _rounded(model: Any) -> Any:
    """Round to nearest with a scale and a zero point for 64 weights."""
    head = model.get_output_embeddings()
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, torch.nn.Linear) and layer is not head:
                groups = layer.weight.reshape(-1, 64)
                low, high = groups.amin(1, keepdim=True).clamp(max=0), groups.amax(1, keepdim=True).clamp(min=0)
                step = (high - low) / 15
                zero = (-low / step).round()
                back = ((groups / step + zero).round().clamp(0, 15) - zero) * step
                layer.weight.copy_(back.reshape(layer.weight.shape))
    return model


@pytest.mark.parametrize("name", [name for name in ALL if name != "nf4"])
def test_no_library_keeps_the_model(name: str, tiny: Path, tmp_path: Path) -> None:
    model = load_model(tiny, dtype=torch.float32)
    alive = weakref.ref(model)
    scheme_of(SCHEMES.options(name)(name=name)).write(model, tiny, tmp_path, calibration=examples())
    del model
    gc.collect()
    assert alive() is None


def test_what_cannot_be_made_is_refused_before_work_starts(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    chosen = [SCHEMES.options(name)(name=name) for name in ("gguf-q4_k_m",)]
    assert check_all(chosen, tiny).layers == 2
    monkeypatch.setattr(ggml, "_native", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        MissingExtraError, match=r"needs llama\.cpp's quantizer, and there is neither xllamacpp"
    ) as caught:
        check_all(chosen, tiny)
    assert "put llama-quantize on PATH" in caught.value.fix
    config = json.loads((tiny / "config.json").read_text())
    odd = tmp_path / "odd"
    odd.mkdir()
    (odd / "config.json").write_text(json.dumps(config | {"hidden_size": 72, "head_dim": 18, "intermediate_size": 100}))
    for options in (AwqOptions(), GptqOptions()):
        with pytest.raises(QuantizeError, match=r"widths \[72, 100\] have no common group size") as refused:
            check_all([options], odd)
        assert options.name in refused.value.where
    with pytest.raises(QuantizeError, match="hidden_size 72 is no multiple of 32"):
        check_all([SCHEMES.options("gguf-q8_0")(name="gguf-q8_0")], odd)
    assert not list(odd.glob(f"*{INFO}")) and group_size_for([4096], 128) == 128


def test_every_gguf_type_is_readable(made: dict[str, tuple[Any, Path]]) -> None:
    """256 wide, 4 layers: v and down of layers 2 and 3 (the last eighth and each third) have six bits, and the head."""
    kinds = {t.name: t.tensor_type.name for t in gguf.GGUFReader(made["gguf-q4_k_m"][1] / "model.gguf").tensors}
    assert kinds["output.weight"] == "Q6_K" and kinds["token_embd.weight"] == "Q4_K"
    assert [kinds[f"blk.{i}.ffn_down.weight"] for i in range(4)] == ["Q4_K", "Q4_K", "Q6_K", "Q6_K"]
    assert [kinds[f"blk.{i}.attn_v.weight"] for i in range(4)] == ["Q4_K", "Q4_K", "Q6_K", "Q6_K"]
    assert kinds["blk.3.ffn_up.weight"] == kinds["blk.3.attn_q.weight"] == "Q4_K"
    kinds = {t.name: t.tensor_type.name for t in gguf.GGUFReader(made["gguf-q4_0"][1] / "model.gguf").tensors}
    assert kinds["token_embd.weight"] == kinds["blk.3.ffn_down.weight"] == "Q4_0"
    assert kinds["output.weight"] == ("Q6_K" if ggml.has_native() else "Q8_0")
