"""Every shipped YAML loads and validates, and the examples keep the protocols they name."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from tunewright import project
from tunewright.core.runs import Workspace
from tunewright.data import stage

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
SHIPPED = sorted([*EXAMPLES.rglob("*.yaml"), *(ROOT / "src/tunewright/init_templates").rglob("*.yaml")])
INTENT = "metadata.intent"


def test_the_named_examples_are_there() -> None:
    names = {path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*.yaml")}
    expected = {"article/full.yaml", "article/lora.yaml", "finance/banking77.yaml", "finance/banking77_all.yaml"}
    assert expected <= names


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: "-".join(path.parts[-2:]))
def test_every_shipped_file_is_valid_and_explained(path: Path) -> None:
    project.load(path, [])
    assert (path.parent / "README.md").is_file()


def test_names_are_different() -> None:
    """Two projects of one folder must not share runs/<name>."""
    names = [(path.parent, project.load(path, []).name) for path in SHIPPED]
    assert len(names) == len(set(names))


def test_banking77_keeps_its_protocol(shared: Path) -> None:
    labels = json.loads((shared / "data/banking77/labels.json").read_text(encoding="utf-8"))
    config = project.load(EXAMPLES / "finance/banking77.yaml", [])
    kept = config.data.keep[INTENT]
    assert list(kept) == random.Random(7).sample(sorted(labels), 20)
    rows = [json.loads(line) for line in (shared / "data/banking77/test.jsonl").read_text("utf-8").splitlines()]
    assert sum(row["metadata"]["intent"] in kept for row in rows) == 800


@pytest.mark.parametrize(("name", "train", "test"), [("banking77", 500, 800), ("banking77_all", 2304, 3080)])
def test_banking77_passes_the_data_gate_with_the_published_rows(
    shared: Path, tmp_path: Path, name: str, train: int, test: int
) -> None:
    (tmp_path / "data").symlink_to(shared / "data")
    config = project.load(EXAMPLES / f"finance/{name}.yaml", ["model.path=builtin:tiny"])
    artifact = stage.run(Workspace(tmp_path, "p"), config.data, model=config.model, seed=config.seed)
    assert artifact.manifest.passed
    assert {key: artifact.manifest.facts["splits"][key] for key in ("train", "test")} == {"train": train, "test": test}


def test_banking77_values() -> None:
    for name, rows, intents in (("banking77", 500, 20), ("banking77_all", None, 0)):
        config = project.load(EXAMPLES / f"finance/{name}.yaml", [])
        assert (config.data.max_train_rows, len(config.data.keep.get(INTENT, ()))) == (rows, intents)
        assert config.data.split.test == 0
        assert config.data.split.test_sources == ("data/banking77/test.jsonl",)
        assert config.train.method.model_dump() == {
            "name": "lora",
            "rank": 16,
            "alpha": 32,
            "dropout": 0.0,
            "targets": "all-linear",
            "variant": "plain",
            "base_bits": None,
        }
        assert (config.train.epochs, config.train.learning_rate) == (3, 1e-3)
        assert config.evaluate.primary == "intent.accuracy"


def test_sources_can_be_named_on_the_command_line(tmp_path: Path) -> None:
    words = re.findall(r"(data\.\S+\.0)=", (EXAMPLES / "finance/README.md").read_text(encoding="utf-8"))
    assert len(words) == 3
    config = project.load(EXAMPLES / "finance/banking77.yaml", [f"{word}={tmp_path}" for word in words])
    assert config.data.sources == config.data.split.test_sources == config.data.split.validation_sources
    assert config.data.sources == (str(tmp_path),)


def test_article_values() -> None:
    full, lora = (project.load(EXAMPLES / f"article/{name}.yaml", []) for name in ("full", "lora"))
    for config in (full, lora):
        train = config.train
        assert config.model.path == "deepseek-ai/deepseek-llm-7b-chat"
        assert (train.rows_per_step, train.epochs, train.learning_rate, train.weight_decay) == (4 * 8, 3, 3e-5, 0.01)
        assert train.gradient_checkpointing and train.sharding is not None and train.sharding.stage == 2
        assert train.early_stopping is not None and train.early_stopping.patience == 5
        assert [variant.name for variant in config.quantize.variants] == ["fp16", "int8", "awq"]
        alone = project.load(EXAMPLES / f"article/{config.train.method.name}.yaml", ["train.sharding=null"])
        assert alone.train.sharding is None
    assert full.train.method.name == "full"
    assert lora.train.method.model_dump() == {
        "name": "lora",
        "rank": 16,
        "alpha": 32,
        "dropout": 0.1,
        "targets": ("q_proj", "v_proj"),
        "variant": "plain",
        "base_bits": None,
    }


def test_the_recipe_for_banking77_makes_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's code on a made-up CSV of the published form: 10 dev rows an intent, the test set whole."""
    code = re.search(r"```python\n(.*?)```", (EXAMPLES / "finance/README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert code
    (tmp_path / "data").mkdir()
    for name, count in (("train", 45), ("test", 3)):
        lines = [
            f'"a ""quoted""\nquestion {n}",{intent}' for n in range(count) for intent in ("atm_support", "pin_blocked")
        ]
        (tmp_path / f"data/{name}.csv").write_text("\n".join(["text,category", *lines]), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    exec(compile(code[1], "README.md", "exec"), {})
    config = project.load(EXAMPLES / "finance/banking77.yaml", [])
    sources = (*config.data.sources, *config.data.split.validation_sources, *config.data.split.test_sources)
    found = [[json.loads(line) for line in Path(name).read_text("utf-8").splitlines()] for name in sources]
    assert [len(rows) for rows in found] == [60, 20, 6]
    prompts = [{row["conversation"][0]["content"] + row["metadata"]["intent"] for row in rows} for rows in found]
    assert not prompts[0] & prompts[1]
    assert all(row["conversation"][1]["content"] == row["metadata"]["intent"] for rows in found for row in rows)
