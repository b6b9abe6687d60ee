"""`tunewright plan` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from plan_kit import target_config, write_project

from tunewright.cli import main


def test_a_project_without_rows_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(write_project(tmp_path)), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parameters"] == 90_624
    assert found["has_rows"] is False and found["tokens"] is None
    assert found["alternatives"][0]["name"] == "as written"
    assert found["cheapest"]["fits"] is True
    parts = found["alternatives"][0]["memory"]
    named = ("program", "weights", "gradients", "optimizer", "activations", "logits", "cache", "temporary", "allocator")
    assert parts["bytes"] == sum(parts[name] for name in named)


def test_a_config_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    place = target_config(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["plan", "--model-config", str(place), "--memory", "8GB"]) == 0
    shown = capsys.readouterr().out
    assert "6,910,365,696 weights" in shown
    assert "cheapest that fits: lora on a base in 4 bits, checkpointing" in shown
    assert "nothing with the method as written fits" in shown


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--price", "cheap"], 2, "--price needs a number"),
        (["--price", "-1"], 2, "--price cannot be negative"),
        (["--model-config", "nowhere.json"], 3, "there is no such file"),
        (["--memory", "much"], 2, "does not understand 'much'"),
        (["--price", "2"], 2, "needs a probe"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str
) -> None:
    assert main(["plan", str(write_project(tmp_path)), *words]) == code
    assert said in capsys.readouterr().err
