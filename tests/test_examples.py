"""Every shipped YAML loads and validates, and the examples keep the protocols they name."""

from __future__ import annotations

import csv
import json
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tunewright import project
from tunewright.core.chat import Conversation
from tunewright.core.runs import Workspace
from tunewright.data import stage
from tunewright.evaluate import exam, foresight, power
from tunewright.evaluate.scorer import applies_to

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
SHIPPED = sorted([*EXAMPLES.rglob("*.yaml"), *(ROOT / "src/tunewright/init_templates").rglob("*.yaml")])
INTENT = "metadata.intent"
CASES = {
    "finance/nlupp_banking": {"train": 500, "validation": 209, "test": 204},
    "finance/fineva_zh": {"train": 415, "validation": 34, "test": 119},
    "education/cmath_zh": {"train": 180, "validation": 60, "test": 360},
    "education/gsm8k": {"train": 200, "validation": 60, "test": 1319},
    "medical/medical_zh": {"train": 160, "validation": 24, "test": 400},
}
"""Rows a split: those of the public data's README, at most max_train_rows; fineva_zh only those that have an answer."""


def test_the_named_examples_are_there() -> None:
    names = {path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*.yaml")}
    expected = {"article/full.yaml", "article/lora.yaml", "finance/banking77.yaml", "finance/banking77_all.yaml"}
    assert expected | {f"{case}.yaml" for case in CASES} <= names


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


@pytest.mark.parametrize("case", CASES)
def test_a_case_study_passes_the_data_gate_measures_every_test_row_and_has_gates_that_can_be_decided(
    shared: Path, tmp_path: Path, case: str
) -> None:
    (tmp_path / "data").symlink_to(shared / "data")
    config = project.load(EXAMPLES / f"{case}.yaml", [])
    artifact = stage.run(Workspace(tmp_path, "p"), config.data, model=config.model, seed=config.seed)
    assert artifact.manifest.passed
    assert {name: artifact.manifest.facts["splits"][name] for name in CASES[case]} == CASES[case]
    test = [Conversation.from_row(row) for row in artifact.jsonl("test.jsonl")]
    assert all(applies_to(config.evaluate, row) for row in test)
    system = config.data.system
    assert all(row.messages[0].role == "system" and row.messages[0].content == system for row in test)
    training = [Conversation.from_row(row) for row in artifact.jsonl("train.jsonl")]
    prepared = exam.prepare(config.evaluate, test, training, seed=config.seed)
    known = foresight.known(
        config.evaluate, prepared.rows, prepared.metrics, workspace=Workspace(tmp_path, "p"), earlier=[]
    )
    assert power.check(config.evaluate.gates, known, on="tuned") == []


def test_the_intents_and_refusals_of_fineva_are_measured_on_their_own_rows(shared: Path) -> None:
    """Of the 119 answered test rows, 90 may be answered and 29 must be refused (否)."""
    config = project.load(EXAMPLES / "finance/fineva_zh.yaml", [])
    kept = config.data.keep["metadata.answer"]
    rows = [json.loads(line) for line in (shared / "data/fineva_zh/test.jsonl").read_text("utf-8").splitlines()]
    answered = [row["metadata"]["answer"] for row in rows if row["metadata"]["answer"] in kept]
    assert (len(answered), answered.count("否")) == (119, 29)


@pytest.mark.parametrize("name", ["education", "finance", "medical"])
def test_a_case_study_stands_beside_the_article(name: str) -> None:
    """The figures of the article, section 8, word for word; medical has none of its own there."""
    figures = {
        "finance": ("82 %", "95 %", "68 %", "89 %", "4.2", "2.8"),
        "education": ("92 %", "98 %", "76 %", "89 %", "81 %", "94 %"),
        "medical": ("27 %", "12 %"),
    }
    page = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
    assert all(figure in page for figure in figures[name])
    assert "## 中文" in page
    for path in (EXAMPLES / name).glob("*.yaml"):
        assert f"tunewright run {path.name}" in page


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
        assert train.gradient_checkpointing and train.sharding is not None and train.sharding.model_dump()["stage"] == 2
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


def _published(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Writes made-up rows in the form of the published file: CSV, a JSON array, else JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        with path.open("w", encoding="gb18030" if "内科" in path.name else "utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        text = f"[{','.join(lines)}]" if path.suffix == ".json" else "\n".join(lines)
        path.write_text(text, encoding="utf-8")


def _run_recipe(page: str, number: int) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (EXAMPLES / page).read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(blocks[number], page, "exec"), {})


def _counted(case: str) -> list[int]:
    """Rows of every file that the project reads, each usable by it: with a question, an answer and what is measured."""
    config = project.load(EXAMPLES / f"{case}.yaml", [])
    sources = (*config.data.sources, *config.data.split.validation_sources, *config.data.split.test_sources)
    found = [[json.loads(line) for line in Path(name).read_text("utf-8").splitlines()] for name in sources]
    for row in (row for rows in found for row in rows):
        assert [turn["role"] for turn in row["conversation"]] == ["user", "assistant"]
        assert applies_to(config.evaluate, Conversation.from_row({**row, "id": "r"}))
    return [len(rows) for rows in found]


def test_the_recipe_for_education_makes_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problems = [
        {"grade": grade, "input": f"{grade}年级第{n}题", "golden": str(n), "reasoning_step": 1}
        for grade in range(1, 7)
        for n in range(100)
    ]
    _published(tmp_path / "data/cmath_dev.jsonl", problems)
    for name, count in (("train", 1200), ("test", 9)):
        worked = [{"question": f"{name} {n}", "answer": f"1+1=<<1+1=2>>2\n#### {n}"} for n in range(count)]
        _published(tmp_path / f"data/{name}.jsonl", worked)
    monkeypatch.chdir(tmp_path)
    _run_recipe("education/README.md", 0)
    assert (_counted("education/cmath_zh"), _counted("education/gsm8k")) == ([180, 60, 360], [1000, 9])
    row = json.loads(Path("data/gsm8k/test.jsonl").read_text(encoding="utf-8").splitlines()[7])
    assert row["metadata"]["final_answer"] == "7"


def test_the_recipe_for_medical_makes_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"department": "消化科", "title": f"题{n % 1700}", "ask": "问,", "answer": f"答{n}"} for n in range(1800)]
    _published(tmp_path / "data/样例_内科5000-6000.csv", rows)
    monkeypatch.chdir(tmp_path)
    _run_recipe("medical/README.md", 0)
    assert _counted("medical/medical_zh") == [1200, 400]


def test_the_recipe_for_finance_makes_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for fold in range(20):
        slots = {"date": {"text": "today", "span": [0, 5]}}
        rows: list[dict[str, object]] = [
            {"text": "pin today", "intents": ["pin"], "slots": slots},
            {"text": "hm"},
        ]
        _published(tmp_path / f"data/nlupp/fold{fold}.json", rows)
    choice = [
        {"id": n, "question": f"问{n}", "A": "甲", "B": "乙", "C": "丙", "D": "", "answer": "B"} for n in range(100)
    ]
    _published(tmp_path / "data/fineva/slot_fund.csv", choice)
    _published(tmp_path / "data/fineva/compliance.csv", [{"id": 1, "question": "可以吗", "answer": "否"}] * 100)
    monkeypatch.chdir(tmp_path)
    _run_recipe("finance/README.md", 1)
    assert (_counted("finance/nlupp_banking"), _counted("finance/fineva_zh")) == ([32, 4, 4], [40, 40, 120])
    first = json.loads(Path("data/nlupp_banking/test.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert json.loads(first["conversation"][1]["content"]) == {"intents": ["pin"], "slots": {"date": "today"}}
    asked = Path("data/fineva_zh/train.jsonl").read_text(encoding="utf-8")
    assert 'A. 甲\\nB. 乙\\nC. 丙"' in asked
