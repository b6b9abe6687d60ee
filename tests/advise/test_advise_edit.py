"""Advised settings go into the file where they belong, and everything else stays, byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from advise_kit import PROJECT

from tunewright import project
from tunewright.advise import edit
from tunewright.advise.proposal import changed_settings, command, flow
from tunewright.core.errors import ConfigError
from tunewright.train.config import TrainConfig
from tunewright.train.methods.options import FullOptions, LoraOptions


def test_values_change_in_place_and_new_keys_follow_the_last_of_their_section() -> None:
    found = edit.edit(PROJECT, {"train.epochs": 7.0, "train.weight_decay": 0.1})
    assert "  epochs: 7   # four passes\n" in found
    assert "  rows_per_step: 4\n  weight_decay: 0.1\nevaluate:" in found
    assert found.startswith("# A comment at the top.\n")
    others = [line for line in found.splitlines() if "epochs" not in line and "weight_decay" not in line]
    assert others == [line for line in PROJECT.splitlines() if "epochs" not in line]


def test_flow_sections_and_missing_sections() -> None:
    assert edit.edit("train: {epochs: 3}\n", {"train.steps": None}) == "train: {epochs: 3, steps: null}\n"
    assert edit.edit("train: {}\n", {"train.epochs": 2.0}) == "train: {epochs: 2}\n"
    assert edit.edit("name: x\n", {"train.epochs": 2.0}) == "name: x\ntrain: {epochs: 2}\n"
    assert edit.edit("name: x", {"train.epochs": 2.0}) == "name: x\ntrain: {epochs: 2}"


CASES = {
    "inline method": "train:\n  method: {name: lora, rank: 8}  # small\n",
    "block method": "train:\n  method:\n    name: lora\n    rank: 8\n",
    "no section": "",
    "empty section": "train:\n",
    "comment behind the section": "train:\n  epochs: 1\n# the end\n",
}


@pytest.mark.parametrize("text", CASES.values(), ids=CASES)
@pytest.mark.parametrize("method", [LoraOptions(rank=32), FullOptions()], ids=["lora", "full"])
def test_the_written_file_gives_exactly_the_advised_settings(tmp_path: Path, text: str, method: object) -> None:
    source = tmp_path / "p.yaml"
    source.write_text(f"# mine\nname: a\ndata:\n  sources: [x.jsonl]\n{text}", encoding="utf-8")
    if text == "train:\n":
        with pytest.raises(ConfigError):
            project.load(source, [])
        return
    loaded = project.load(source, ["seed=9"])
    wanted = loaded.train.model_copy(update={"method": method, "epochs": 2.5, "learning_rate": 1e-5})
    target = tmp_path / "advised.yaml"
    kept = edit.write(source, target, loaded, wanted, ["seed=9"])
    assert project.load(target, []) == loaded.model_copy(update={"train": wanted})
    assert kept is (text != CASES["block method"])
    assert target.read_text(encoding="utf-8").startswith("# mine") is kept


def test_a_file_of_somebody_else_is_not_overwritten(tmp_path: Path) -> None:
    source, other = tmp_path / "p.yaml", tmp_path / "q.yaml"
    source.write_text(PROJECT, encoding="utf-8")
    other.write_text("mine", encoding="utf-8")
    loaded = project.load(source, [])
    with pytest.raises(ConfigError, match="there already"):
        edit.write(source, other, loaded, loaded.train, [])
    assert other.read_text(encoding="utf-8") == "mine"
    assert edit.write(source, source, loaded, loaded.train, [])
    assert source.read_text(encoding="utf-8") == PROJECT


def test_the_command_line_gives_the_same_settings(tmp_path: Path) -> None:
    import shlex

    source = tmp_path / "p.yaml"
    source.write_text(PROJECT, encoding="utf-8")
    loaded = project.load(source, [])
    wanted = loaded.train.model_copy(update={"method": LoraOptions(rank=64), "steps": 100, "epochs": None})
    words = shlex.split(command(loaded, wanted, "p.yaml"))
    assert words[:3] == ["tunewright", "train", "p.yaml"]
    assert project.load(source, words[3:]).train == wanted


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "null"), (True, "true"), (3.0, "3"), (0.0013, "0.0013"), (1e-05, "1e-05"), ("all-linear", "all-linear"),
     ("no way", '"no way"'), ("null", '"null"'), (["q_proj"], "[q_proj]"),
     ({"name": "lora", "rank": 4}, "{name: lora, rank: 4}")],
)  # fmt: skip
def test_values_on_one_line(value: object, text: str) -> None:
    assert flow(value) == text


def test_only_changed_settings_are_named(tmp_path: Path) -> None:
    source = tmp_path / "p.yaml"
    source.write_text(PROJECT, encoding="utf-8")
    loaded = project.load(source, [])
    assert changed_settings(loaded, loaded.train) == {}
    changed = changed_settings(loaded, TrainConfig.model_validate({**loaded.train.model_dump(), "epochs": 5}))
    assert changed == {"train.epochs": 5.0}
