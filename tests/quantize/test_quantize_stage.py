"""The whole stage on the tiny model, with data and train artifacts made here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from quantize_kit import MODEL, data_artifact, even_length, info, logits, lora_artifact, sealed

from tunewright.core import files
from tunewright.core.events import read_events
from tunewright.core.runs import Artifact, Output, Workspace, begin
from tunewright.models import source
from tunewright.models.config import ModelInfo
from tunewright.models.load import load_model
from tunewright.models.tuned import open_tuned
from tunewright.quantize import stage
from tunewright.quantize.config import QuantizeConfig
from tunewright.quantize.loaded import round_to_16_bits
from tunewright.quantize.measure import Exam
from tunewright.quantize.scheme import QuantizeError
from tunewright.quantize.schemes.int8 import Int8

SMALL: dict[str, Any] = {
    "calibration_rows": 4,
    "calibration_tokens": 20,
    "task_rows": 8,
    "perplexity_tokens": 128,
    "latency_tokens": 4,
    "latency_repeats": 1,
    "batch_tokens": 3,
}


def _config(names: list[str], **more: Any) -> QuantizeConfig:
    listed = [{"name": name, "max_loss": 1.0} | ({"grid": 3} if name == "awq" else {}) for name in names]
    return QuantizeConfig.model_validate(SMALL | {"variants": listed} | more)


def _run(workspace: Workspace, config: QuantizeConfig, data: Artifact, train: Artifact, **more: Any) -> Artifact:
    options: dict[str, Any] = {"scorer": even_length, "applies": lambda row: True} | more
    exam = Exam(max_new_tokens=4, batch_size=4, **options)
    return stage.run(workspace, config, model=MODEL, seed=7, data=data, train=train, exam=exam)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path, "p")


@pytest.fixture
def data(workspace: Workspace) -> Artifact:
    return data_artifact(workspace)


@pytest.fixture
def train(workspace: Workspace) -> Artifact:
    return lora_artifact(workspace)


def test_end_to_end(workspace: Workspace, data: Artifact, train: Artifact, capfd: pytest.CaptureFixture[str]) -> None:
    artifact = _run(workspace, _config(["bf16", "int8", "awq"]), data, train)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert all(line.startswith(("quantize: ", "  ")) for line in captured.err.splitlines()), captured.err
    assert "calibrating on 4 of 12 training rows" in captured.err and ", seed 7" in captured.err
    assert "awq shares a scale among 64 weights (128 does not divide every layer's width)" in captured.err
    rows = artifact.json("table.json")
    assert [row["scheme"] for row in rows] == ["bf16", "int8", "awq"]
    assert rows[0]["ratio"] == 1 and rows[0]["agreement"] == 1 and rows[0]["task_change"] == 0
    assert 1 > rows[1]["ratio"] > rows[2]["ratio"] > 0.3
    assert all(row["accepted"] and row["tokens_per_second"] > 0 and row["engine"] == "transformers" for row in rows)
    assert "dequantized weights" in rows[1]["note"] and rows[0]["note"] == ""
    assert rows[1]["perplexity"] == pytest.approx(rows[0]["perplexity"], rel=0.02)
    assert len({row["perplexity"] for row in rows}) == 3
    for row in rows:
        assert row["predicted_bytes"] == pytest.approx(row["bytes"], rel=0.02)
        assert row["tokens_per_second_b8"] > 0 and row["peak_bytes"] >= 0 and "torch" in row["engine_build"]
        assert row["perplexity_low"] <= row["perplexity"] <= row["perplexity_high"]
    assert rows[0]["logit_error"] == 0 < rows[1]["logit_error"] < rows[2]["logit_error"] < 1
    assert rows[0]["article"] == "article, FP16: 14 GB; deepseek-llm-7b-chat by its shapes 13.82 of 13.82 GB"
    assert rows[1]["article"].startswith("article, INT8: 7.5 of 14 GB, +22 % speed, < 1 % loss; here 0.")
    assert rows[2]["article"].endswith("deepseek-llm-7b-chat by its shapes 4.83 of 13.82 GB")

    merged = open_tuned(train, MODEL, source.resolve(MODEL, workspace.root), dtype=torch.float32)
    stored = load_model(artifact.folder("bf16"), dtype=torch.float32)
    torch.testing.assert_close(logits(stored), logits(merged), rtol=0.05, atol=0.02)
    base = load_model(source.resolve(MODEL, workspace.root), dtype=torch.float32)
    assert float((logits(stored) - logits(base)).abs().max()) > 0.1  # it is the tuned model, not the base

    kinds = {name: ModelInfo.model_validate(artifact.json(f"{name}/model.json")) for name in ("bf16", "int8", "awq")}
    assert [(kinds[n].kind, kinds[n].bits) for n in kinds] == [("merged", 16), ("quantized", 8), ("quantized", 4)]
    assert kinds["int8"].base == "builtin:tiny" and kinds["int8"].dtype == "bfloat16"
    events = read_events(artifact.path / "events.jsonl")
    assert [(e["event"], e["scheme"]) for e in events][:2] == [("written", "bf16"), ("measured", "bf16")]
    assert not list(artifact.path.glob(".*.tmp"))
    again = _run(workspace, _config(["bf16", "int8", "awq"]), data, train)
    assert again.path == artifact.path


def test_calibration_rows_come_from_training_only(
    workspace: Workspace, data: Artifact, train: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    from tunewright.quantize.schemes.awq import Awq

    write = Awq.write

    def spy(self: Awq, model: Any, folder: Path, target: Path, *, calibration: Any) -> dict[str, Any]:
        seen.append([example.row_id for example in calibration])
        assert all(len(example.input_ids) <= 20 for example in calibration)
        return write(self, model, folder, target, calibration=calibration)

    monkeypatch.setattr(Awq, "write", spy)
    artifact = _run(workspace, _config(["awq"]), data, train)
    assert len(seen[0]) == len(set(seen[0])) == 4 and all(row.startswith("train:") for row in seen[0])
    assert artifact.manifest.facts["calibration_rows"] == 4


def test_without_a_16_bit_variant_one_is_measured_and_not_stored(
    workspace: Workspace, data: Artifact, train: Artifact, capfd: pytest.CaptureFixture[str]
) -> None:
    artifact = _run(workspace, _config(["int8"]), data, train)
    assert "no 16-bit variant is listed, so bf16 is measured in memory" in capfd.readouterr().err
    assert [row["scheme"] for row in artifact.json("table.json")] == ["int8"]
    assert not (artifact.path / "bf16").exists()
    reference = artifact.manifest.facts["reference"]
    assert reference["scheme"] == "bf16" and reference["ratio"] == 1
    assert artifact.json("table.json")[0]["ratio"] == pytest.approx(0.62, abs=0.03)


def test_gguf_in_llama_cpp(workspace: Workspace, data: Artifact, train: Artifact) -> None:
    pytest.importorskip("xllamacpp", reason="xllamacpp is not installed")
    rows = _run(workspace, _config(["bf16", "gguf-q8_0", "gguf-q4_0"]), data, train).json("table.json")
    assert [row["engine"] for row in rows] == ["transformers", "llama.cpp", "llama.cpp"]
    assert rows[1]["perplexity_engine"] == "transformers, dequantized weights"
    assert rows[1]["perplexity"] == pytest.approx(rows[0]["perplexity"], rel=0.02)
    assert rows[2]["ratio"] < rows[1]["ratio"] < 0.65
    assert rows[1]["agreement"] >= 0.5


def test_a_variant_that_cannot_be_built_leaves_nothing_that_looks_whole(
    workspace: Workspace, data: Artifact, train: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Int8, model: Any, folder: Path, target: Path, *, calibration: Any) -> dict[str, Any]:
        (target / "model.safetensors").write_bytes(b"half")
        raise ValueError("a fault deep inside\nwith a second line")

    monkeypatch.setattr(Int8, "write", broken)
    with pytest.raises(QuantizeError) as caught:
        _run(workspace, _config(["bf16", "int8"]), data, train)
    assert caught.value.problem == "the variant int8 could not be built: ValueError: a fault deep inside"
    assert "leave int8 out" in caught.value.fix
    assert workspace.finished("quantize") == []
    (unfinished,) = workspace.directories("quantize")
    assert not (unfinished / "int8").exists() and not list(unfinished.rglob("*.tmp"))
    monkeypatch.undo()
    assert _run(workspace, _config(["bf16", "int8"]), data, train).path == unfinished


def test_fully_trained_weights_in_16_bits_are_linked_not_copied(workspace: Workspace, data: Artifact) -> None:
    folder = source.resolve(MODEL, workspace.root)
    output = begin(workspace, "train", {}, ())
    assert isinstance(output, Output)
    load_model(folder, dtype=torch.float32).to(torch.bfloat16).save_pretrained(output.path / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        files.link_or_copy(folder / name, output.path / "model" / name)
    files.write_json(output.path / "model.json", info(folder, kind="full").model_dump(mode="json"))
    train = sealed(output)
    artifact = _run(workspace, _config(["bf16"]), data, train)
    assert (artifact.path / "bf16" / "model.safetensors").samefile(train.path / "model" / "model.safetensors")
    assert json.loads((artifact.path / "bf16" / "model.json").read_text())["kind"] == "merged"


def test_rounding_touches_weights_only() -> None:
    """Rounding the whole module would round the rope frequencies too, and every later position with them."""
    model = load_model(source.resolve(MODEL, Path()), dtype=torch.float32)
    frequencies = model.model.rotary_emb.inv_freq.clone()
    weight = model.model.norm.weight.data.normal_().clone()
    round_to_16_bits(model, "fp16")
    assert torch.equal(model.model.rotary_emb.inv_freq, frequencies)
    assert torch.equal(model.model.norm.weight, weight.to(torch.float16).float())
    assert not torch.equal(model.model.norm.weight, weight)


def test_a_variant_that_reads_back_as_another_model_seals_nothing(
    workspace: Workspace, data: Artifact, train: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Int8.write

    def turned(self: Int8, model: Any, folder: Path, target: Path, *, calibration: Any) -> dict[str, Any]:
        with torch.no_grad():
            model.model.layers[0].mlp.down_proj.weight.normal_()
            model.model.layers[1].self_attn.o_proj.weight.normal_()
        return write(self, model, folder, target, calibration=calibration)

    monkeypatch.setattr(Int8, "write", turned)
    with pytest.raises(QuantizeError, match="int8 computes another model when it is read back"):
        _run(workspace, _config(["bf16", "int8"]), data, train)
    assert workspace.finished("quantize") == []


def test_a_gate_refuses_a_variant_and_the_stage_fails_when_none_is_left(
    workspace: Workspace, data: Artifact, train: Artifact
) -> None:
    seen: list[int] = []

    def second_is_refused(samples: Any) -> str:
        seen.append(len(samples))
        return "refused by gate: too low" if len(seen) == 2 else ""

    artifact = _run(workspace, _config(["bf16", "int8"]), data, train, judge=second_is_refused)
    rows = {row["scheme"]: row for row in artifact.json("table.json")}
    assert rows["bf16"]["accepted"] is True
    assert rows["int8"]["accepted"] is False
    assert "refused by gate: too low" in rows["int8"]["note"]
    assert artifact.manifest.passed
    assert len(set(seen)) == 1
    none = _run(workspace, _config(["bf16"]), data, train, judge=lambda samples: "refused by gate: no", name="other")
    assert none.manifest.passed is False
    assert "every quantized variant is refused" in none.manifest.facts["failed"]
