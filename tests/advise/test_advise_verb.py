"""`tunewright advise` as a user types it, and the facts it reads from sealed rows and weights."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from advise_kit import DEEPSEEK, PROJECT, SMOLLM, opened, write_project

from tunewright import project
from tunewright.advise import advice
from tunewright.advise.facts import collect, shown
from tunewright.advise.shape import model_facts
from tunewright.cli import main
from tunewright.models import source
from tunewright.models.config import ModelConfig
from tunewright.pipeline import Stages


def test_facts_are_those_of_the_sealed_rows(tmp_path: Path) -> None:
    loaded, workspace, data = opened(write_project(tmp_path, rows=80))
    known = collect(loaded, workspace, data)
    rows = data.jsonl("train.jsonl")
    assert known.data.rows == len(rows) == 40
    assert known.data.validation_rows == len(data.jsonl("validation.jsonl")) == 20
    assert known.data.labels == 3
    counted = [row["metadata"]["intent"] for row in rows]
    assert known.data.fewest_rows_of_a_label == min(counted.count(label) for label in set(counted))
    # A byte tokenizer: an answer of three or four letters and its end token are trained.
    assert known.data.trained_tokens == sum(len(label) + 1 for label in counted)
    assert known.data.median_tokens <= known.data.longest_tokens
    assert known.data.han_share == 0
    assert known.machine.memory_bytes > 10**8
    assert "3, at least" in shown(known)["labels"]


def test_the_tiny_models_shape() -> None:
    """2 layers, hidden 64: q and o 64 + 64, k and v 64 + 32, three MLP matrices 64 + 128."""
    shape = model_facts(source.resolve(ModelConfig(path="builtin:tiny"), Path()))
    assert (shape.layers, shape.hidden, shape.family) == (2, 64, "llama")
    assert shape.lora_per_rank == 2 * (2 * 128 + 2 * 96 + 3 * 192)


def test_the_shapes_the_rules_are_tested_with_are_the_real_ones() -> None:
    assert SMOLLM.lora_per_rank == 30 * (2 * (576 + 576) + 2 * (576 + 192) + 3 * (576 + 1536))
    assert DEEPSEEK.lora_per_rank == 30 * (4 * (4096 + 4096) + 3 * (4096 + 11008))
    # The adapter of the facts page, rank 16 on all linear layers, is 75 MB in bf16.
    assert DEEPSEEK.lora_parameters(16) * 2 == pytest.approx(75e6, rel=0.01)
    assert DEEPSEEK.linear == 30 * (4 * 4096 * 4096 + 3 * 4096 * 11008)
    assert SMOLLM.linear == 30 * (2 * 576 * 576 + 2 * 576 * 192 + 3 * 576 * 1536)
    assert DEEPSEEK.full_bytes() == pytest.approx(110.6e9, rel=0.001)
    assert DEEPSEEK.adapter_bytes(DEEPSEEK.lora_parameters(16)) == pytest.approx(14.42e9, rel=0.001)


def test_without_data_it_says_what_to_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_project(tmp_path)
    assert main(["advise", str(path)]) == 3
    assert "run `tunewright data` with this project file first" in capsys.readouterr().err


def test_table_json_and_written_file_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_project(tmp_path)
    loaded, _, _ = opened(path)
    capsys.readouterr()
    assert main(["advise", str(path)]) == 0
    text = capsys.readouterr().out
    target = tmp_path / "advised.yaml"
    assert main(["advise", str(path), "--json", "--write", str(target)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["command"] in text
    assert all(line["key"] in text and line["why"] in text for line in found["advice"])
    assert all(source["says"] and source["place"] for line in found["advice"] for source in line["sources"])
    advised = project.load(target, [])
    assert advised == project.load(path, found["overrides"])
    assert advised.train != loaded.train
    assert target.read_text(encoding="utf-8").startswith("# A comment at the top.")
    assert found["sweep"] is None


def test_advice_needs_no_torch(tmp_path: Path) -> None:
    path = write_project(tmp_path)
    opened(path)
    code = (
        "import sys; from tunewright.cli import main; code = main(['advise', sys.argv[1]]);"
        "assert not {'torch', 'transformers'} & set(sys.modules); raise SystemExit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_dry_sweep_lists_its_settings_and_trains_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_project(tmp_path)
    _, workspace, _ = opened(path)
    assert main(["advise", str(path), "--sweep", "4", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "would train 4 settings" in out and "1 (rules)" in out and "2 (project)" in out
    assert not (tmp_path / "runs" / "made-sweep").exists()
    assert workspace.directories("train") == []
    assert main(["advise", str(path), "--sweep", "1"]) == 2
    assert "at least 2 settings" in capsys.readouterr().err


def test_a_measured_better_run_is_where_advice_starts(tmp_path: Path) -> None:
    """Two real trainings: the one with the higher rate has the lower validation loss, and its settings are advised."""
    path = write_project(tmp_path, PROJECT.replace("epochs: 4", "epochs: 1"), rows=60)
    loaded, workspace, data = opened(path)
    for rate in (1e-5, 2e-2):
        settings = loaded.train.model_copy(update={"learning_rate": rate})
        Stages(loaded.model_copy(update={"train": settings}), workspace, "p.yaml").run("train", {"data": data})
    advised = advice.advise(loaded, workspace, data, swept=None)
    assert len(advised.runs) == 2
    assert advised.runs[1].loss < advised.runs[0].loss
    assert advised.proposal.train.learning_rate == 2e-2
    assert advised.proposal.train.epochs == 1
    line = next(line for line in advised.proposal.lines if line.key == "train.method")
    assert "runs/made/train/0002 has the lowest validation loss of 2 runs" in line.why
    assert "finished runs" in advice.text(advised, "p.yaml")
