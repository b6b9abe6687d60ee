"""Adapter folders, and the proof of the installed libraries in both directions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.ia3.layer import Linear as Ia3Linear
from torch import nn

from tunewright.core.errors import ArtifactError
from tunewright.models import adapters, adapters_proof
from tunewright.models.adapters_prefix import PrefixModel
from tunewright.models.load import for_inference, load_model
from tunewright.models.packed_linear import PackedLinear, can_pack


def test_a_folder_without_an_adapter_is_named(tmp_path: Path) -> None:
    for text in (None, "{}", "[]", "no json"):
        if text is not None:
            (tmp_path / adapters.CONFIG).write_text(text, encoding="utf-8")
        with pytest.raises(ArtifactError, match=r"no usable adapter_config\.json") as error:
            adapters.peft_type(tmp_path)
        assert error.value.where == str(tmp_path)


@pytest.mark.parametrize("use_dora", [False, True])
def test_prepacking_leaves_what_an_adapter_reads(tiny: Path, tmp_path: Path, use_dora: bool) -> None:
    if not can_pack(torch.float32):
        pytest.skip("this torch has no oneDNN linear")
    settings = LoraConfig(target_modules=["q_proj"], init_lora_weights=False, use_dora=use_dora, task_type="CAUSAL_LM")
    get_peft_model(load_model(tiny, dtype=torch.float32), settings).save_pretrained(str(tmp_path))
    opened = for_inference(adapters.adapted(load_model(tiny, dtype=torch.float32), tmp_path, merge=False))
    attention = opened.get_base_model().model.layers[0].self_attn
    assert isinstance(attention.k_proj, PackedLinear)
    assert isinstance(attention.q_proj.base_layer, nn.Linear if use_dora else PackedLinear)
    assert isinstance(attention.q_proj.lora_A["default"], nn.Linear)


def test_the_proof_finds_nothing_in_the_installed_pair() -> None:
    found = adapters_proof.findings()
    assert {kind: found[kind] for kind in adapters_proof.KINDS} == {"prefix": [], "lora": [], "ia3": []}


def test_the_proof_sees_a_wrong_merge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ia3Linear, "merge", lambda self, *_, **__: None)
    found = adapters_proof.findings()
    assert found["ia3"] == ["the merged adapter is another model"]
    assert found["lora"] == []


def test_the_proof_sees_a_prefix_that_generation_loses(monkeypatch: pytest.MonkeyPatch) -> None:
    from tunewright.models import running

    def without(model: Any) -> tuple[Any, list[Any]]:
        return (model.base_model if isinstance(model, PrefixModel) else model), []

    monkeypatch.setattr(running, "split", without)
    assert adapters_proof.findings()["prefix"] == ["generating step by step is not the forward pass"]


def test_the_proof_names_an_error_of_the_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(model: Any) -> Any:
        raise AttributeError("no such thing\nmore")

    monkeypatch.setitem(adapters_proof._BUILD, "lora", broken)
    assert adapters_proof.findings()["lora"] == ["AttributeError: no such thing"]


def test_an_engine_without_an_adapter_does_not_load_peft() -> None:
    """peft takes a second to import."""
    code = "import sys; from tunewright.models import generate, load, tuned; print('peft' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
