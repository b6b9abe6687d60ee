"""Strict YAML and the faults a user sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunewright import project
from tunewright.core.config import read_yaml
from tunewright.core.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1e-4", 1e-4),
        ("2E5", 2e5),
        ("1.5e+3", 1500.0),
        (".5", 0.5),
        ("-3", -3),
        ("007", 7),
        ("1_000", "1_000"),
        ("on", "on"),
        ("no", "no"),
        ("yes", "yes"),
        ("off", "off"),
        ("true", True),
        ("False", False),
        ("2024-01-01", "2024-01-01"),
        ("1:30", "1:30"),
        ("~", None),
        ("0x1f", "0x1f"),
    ],
)
def test_words_and_numbers_are_what_they_look_like(text: str, expected: Any) -> None:
    data, _ = read_yaml(f"key: {text}", "p.yaml")
    assert data["key"] == expected
    assert type(data["key"]) is type(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "p.yaml:3: the key 'a' stands twice (first on line 1)"),
        ("x:\n  a: 1\n  a: 2", "p.yaml:3: the key 'a' stands twice (first on line 2)"),
        ("", "p.yaml: the file is empty"),
        ("- 1", "p.yaml: the file must hold `key: value` lines at the top"),
        ("a: [1", "p.yaml:1: this is not valid YAML"),
        ("a: !!python/object/apply:os.system ['true']", "p.yaml:1: could not determine a constructor"),
        ("? [a, b]\n: 1", "p.yaml:1: a key must be a plain word"),
    ],
)
def test_yaml_faults_name_the_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_yaml(text, "p.yaml")
    assert message in str(caught.value)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "p.yaml"
    path.write_text(text, encoding="utf-8")
    return path


GOOD = "name: a\ndata: {sources: [x.jsonl]}\n"


def test_all_faults_at_once_with_line_and_suggestion(tmp_path: Path) -> None:
    text = GOOD + (
        "sede: 3\n"
        "train:\n  method: {name: lora, rnk: 8}\n  epochs: no\n  rows_per_step: 3\n  tokens_per_step: 100\n"
        "quantize: {variants: [{name: int9}]}\n"
        "evaluate:\n  gates:\n    - {metric: a, when: better}\n"
    )
    with pytest.raises(ConfigError) as caught:
        project.load(write(tmp_path, text), [])
    found = str(caught.value)
    assert "p.yaml:3: sede: unknown key; did you mean 'seed'?" in found
    assert "p.yaml:5: train.method.rnk: unknown key; did you mean 'rank'?" in found
    assert "p.yaml:6: train.epochs: input should be a valid number" in found
    assert "p.yaml:9: quantize.variants.0: unknown name 'int9'; did you mean 'int8'?" in found
    assert "p.yaml:12: evaluate.gates.0.when: write a comparison such as" in found
    assert caught.value.exit_code == 2


def test_two_batch_sizes_exclude_each_other(tmp_path: Path) -> None:
    text = GOOD + "train: {rows_per_step: 3, tokens_per_step: 100}\n"
    with pytest.raises(ConfigError, match=r"p\.yaml:3: train: rows_per_step and tokens_per_step exclude each other"):
        project.load(write(tmp_path, text), [])


def test_overrides_change_values_and_their_faults_name_the_command_line(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    changed = project.load(path, ["train.learning_rate=1e-3", "train.method.name=full", "data.sources.0=y.jsonl"])
    assert changed.train.learning_rate == 1e-3
    assert changed.train.method.name == "full"
    assert changed.data.sources == ("y.jsonl",)
    with pytest.raises(ConfigError, match=r"command line: train\.epochs: input should be greater than 0"):
        project.load(path, ["train.epochs=0"])
    with pytest.raises(ConfigError, match="names no place"):
        project.load(path, ["data.sources.7=x"])
    with pytest.raises(ConfigError, match="is no override"):
        project.load(path, ["train.epochs"])


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a" * 65])
def test_a_name_that_is_no_folder_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="name"):
        project.load(write(tmp_path, f"name: '{name}'\ndata: {{sources: [x]}}\n"), [])


def test_missing_binary_and_directory_files_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        project.load(tmp_path / "none.yaml", [])
    with pytest.raises(ConfigError, match="this is a directory"):
        project.load(tmp_path, [])
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        project.load(tmp_path / "b.yaml", [])


def test_a_secret_comes_from_the_environment_and_never_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, GOOD + "serve: {api_key: '${TUNEWRIGHT_TEST_KEY}'}\n")
    with pytest.raises(ConfigError, match="the environment variable TUNEWRIGHT_TEST_KEY is not set"):
        project.load(path, [])
    monkeypatch.setenv("TUNEWRIGHT_TEST_KEY", "hunter2")
    loaded = project.load(path, [])
    assert loaded.serve.api_key is not None
    assert loaded.serve.api_key.get_secret_value() == "hunter2"
    assert "hunter2" not in loaded.model_dump_json() + repr(loaded)


def test_another_address_without_a_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"set serve\.api_key"):
        project.load(write(tmp_path, GOOD + "serve: {host: 0.0.0.0}\n"), [])


def test_defaults_are_listed(tmp_path: Path) -> None:
    loaded = project.load(write(tmp_path, GOOD + "train: {epochs: 1}\n"), [])
    listed = dict(project.defaults_used(loaded))
    assert listed["train.learning_rate"] == 2e-4
    assert "train.epochs" not in listed
    assert listed["seed"] == 7


@pytest.mark.parametrize("serve", ["{api_key: 918273645}", "{api_keys: {ann: 918273645}}"])
def test_a_secret_of_the_wrong_type_is_not_shown(tmp_path: Path, serve: str) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(f"name: p\nmodel: {{path: 'builtin:tiny'}}\ndata: {{sources: [a]}}\nserve: {serve}\n")
    with pytest.raises(ConfigError, match="api_key") as caught:
        project.load(file, [])
    assert "918273645" not in str(caught.value)
