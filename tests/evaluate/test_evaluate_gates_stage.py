"""The stage around its gates: power before the first answer, uses of the test rows, JUnit, the promoted model."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tunewright.core import files, promoted
from tunewright.core.chat import Conversation, Message
from tunewright.core.errors import ArtifactError, ConfigError
from tunewright.core.promoted import Current
from tunewright.core.runs import Artifact, Output, Workspace, begin
from tunewright.evaluate import early, stage, uses
from tunewright.evaluate.config import EvaluateConfig
from tunewright.models import source
from tunewright.models.config import ModelConfig, ModelInfo
from tunewright.models.tokens import ChatTokenizer

MODEL = ModelConfig(path="builtin:tiny", dtype="float32")
LABELS = ["fee", "card"]
GATE = {"metric": "intent.accuracy", "when": ">= base + 0.05", "significant": True}


def _conversation(split: str, index: int) -> Conversation:
    label = LABELS[index % 2]
    messages = (Message(role="user", content=f"{split} {index}?"), Message(role="assistant", content=label))
    return Conversation(id=f"{split}:{index}", messages=messages, metadata={"intent": label})


class Made:
    """A workspace with rows, and a "trained" model that is the base itself: fast, and no gate can be met."""

    def __init__(self, root: Path) -> None:
        self.workspace = Workspace(root, "demo")
        self.base = source.resolve(MODEL, root)
        self.data = self.rows()
        self.train = self.model(1)

    def rows(self, mark: str = "") -> Artifact:
        output = begin(self.workspace, "data", {"mark": mark}, ())
        assert isinstance(output, Output)
        for split in ("train", "test"):
            rows = [_conversation(split + mark, index).to_row() for index in range(8)]
            files.write_jsonl(output.path / f"{split}.jsonl", rows)
        return output.seal()

    def model(self, number: int) -> Artifact:
        output = begin(self.workspace, "train", {"number": number}, (self.workspace.reference(self.data),))
        assert isinstance(output, Output)
        info = ModelInfo(
            kind="full",
            base=MODEL.path,
            base_revision="main",
            base_sha256=source.weights_sha256(self.base),
            method="full",
            dtype="float32",
            bits=32,
            chat_template_sha256=ChatTokenizer.load(self.base).template.sha256,
            max_length=512,
        )
        files.write_json(output.path / "model.json", info.model_dump())
        files.link_tree(self.base, output.path / "model")
        return output.seal()

    def evaluate(self, *, data: Artifact | None = None, train: Artifact | None = None, **changes: Any) -> Artifact:
        config = EvaluateConfig.model_validate({"metrics": [{"name": "intent"}], "max_new_tokens": 4} | changes)
        return stage.run(self.workspace, config, model=MODEL, seed=7, data=data or self.data, train=train or self.train)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


def test_an_undecidable_gate_ends_it_before_a_model_is_opened(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match=r"8 rows can show a difference of 0\.75 or more.*needs 1,568 rows") as caught:
        made.evaluate(gates=[GATE])
    assert caught.value.exit_code == 2
    assert "opening" not in capsys.readouterr().err
    assert made.workspace.finished("evaluate") == []


@pytest.mark.parametrize(
    "named", [{"primary": "intent.false_accept"}, {"gates": [GATE | {"metric": "intent.false_accept"}]}]
)
def test_a_key_that_no_test_row_gives_is_refused_before_a_model_is_opened(made: Made, named: dict[str, Any]) -> None:
    """No row has an out-of-scope label."""
    with pytest.raises(ConfigError, match=r"'intent\.false_accept' is measured on none of the 8 test rows") as raised:
        made.evaluate(**named)
    assert raised.value.fix is not None and "intent.accuracy" in raised.value.fix
    assert not made.workspace.finished("evaluate")


def test_the_pipeline_refuses_it_before_training(made: Made) -> None:
    config = EvaluateConfig.model_validate({"metrics": [{"name": "intent"}], "gates": [GATE]})
    with pytest.raises(ConfigError, match="cannot be decided"):
        early.state(config, made.data, made.workspace, seed=7, task_rows=128)
    on_variants = EvaluateConfig.model_validate(
        {"metrics": [{"name": "intent"}], "gates": [GATE | {"when": ">= base + 0.9", "on": ["quantized"]}]}
    )
    assert early.state(on_variants, made.data, made.workspace, seed=7, task_rows=8)
    with pytest.raises(ConfigError, match="6 can"):
        early.state(on_variants, made.data, made.workspace, seed=7, task_rows=5)


def test_power_uses_and_gates_are_stored_and_said(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    gates = [GATE | {"undecidable": "warn", "significant": False, "when": ">= base"}]
    artifact = made.evaluate(gates=gates)
    err = capsys.readouterr().err
    assert err.index("can show a difference of 0.75") < err.index("opening the base model")
    assert "the test rows are used for the first time" in err
    scores = artifact.json("scores.json")
    stated = artifact.json("power.json")
    assert stated["power"] == scores["power"] and scores["power"][0]["metric"] == "intent.accuracy"
    assert scores["uses"] == {"earlier": 0, "test_sha256": uses.test_sha256(made.data)}
    facts = artifact.manifest.facts
    assert facts["tokenizer_sha256"] == files.sha256(made.base / "tokenizer.json")
    assert facts["cut_answers"] == 8
    assert facts["long_references"] == 4, "`card` has four tokens and an end token, max_new_tokens is 4"
    root = ElementTree.parse(artifact.file("junit.xml")).getroot()
    assert (root.get("tests"), root.get("failures")) == ("1", "0")
    assert [case.get("name") for case in root.iter("testcase")] == ["intent.accuracy >= base"]


def test_every_use_of_the_same_rows_is_counted(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    made.evaluate()
    capsys.readouterr()
    second = made.evaluate(max_new_tokens=5)
    assert "the test rows were used once before this evaluation" in capsys.readouterr().err
    assert second.manifest.facts["earlier_uses"] == 1
    assert "spread as in runs/demo/evaluate/0001" in second.json("scores.json")["power"][0]["basis"]
    third = made.evaluate(max_new_tokens=6)
    assert third.json("scores.json")["uses"]["earlier"] == 2
    other = made.evaluate(data=made.rows(mark="b"))
    assert other.manifest.facts["earlier_uses"] == 0, "other rows"
    again = made.evaluate()
    assert again.path.name == "0001" and len(made.workspace.finished("evaluate")) == 4, "looking again is no use"


def test_a_damaged_earlier_run_stops_nothing(made: Made) -> None:
    first = made.evaluate()
    (first.path / "scores.json").unlink()
    assert made.evaluate(max_new_tokens=5).json("scores.json")["uses"]["earlier"] == 1


def test_the_confusion_of_the_tuned_model_is_stored(made: Made) -> None:
    """The untrained model names no label, so every row stands under "(no label)"."""
    found = made.evaluate().json("confusion.json")
    assert found == {"labels": ["card", "fee", "(no label)"], "counts": [[0, 0, 4], [0, 0, 4], [0, 0, 0]]}


def test_further_metrics_carry_a_corrected_p_value(made: Made) -> None:
    paired = made.evaluate().json("scores.json")["paired"]
    assert paired["intent.accuracy"]["p_holm"] == paired["intent.accuracy"]["p"] == 1
    assert all("p_holm" in row for row in paired.values())
    assert (paired["intent.accuracy"]["gained"], paired["intent.accuracy"]["lost"]) == (0, 0)


def _promote(made: Made, artifact: Artifact) -> None:
    home = promoted.folder(made.workspace)
    home.mkdir(parents=True, exist_ok=True)
    current = Current(
        artifact=made.workspace.relative(artifact.path),
        variant="tuned",
        manifest_sha256=artifact.manifest_sha256,
        since=datetime(2026, 1, 1, tzinfo=UTC),
        by="Mei",
        entry="0" * 64,
    )
    files.write_json(home / "current", current.model_dump(mode="json"))


def test_a_gate_on_the_promoted_model_asks_it_the_same_rows(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    gates = [{"metric": "intent.accuracy", "when": ">= promoted"}]
    first = made.evaluate(gates=gates)
    assert "nothing is promoted yet, so the base stands in" in capsys.readouterr().err
    assert "base stands in" in first.json("scores.json")["gates"][0]["reason"]
    _promote(made, made.train)
    second = made.evaluate(gates=gates, train=made.model(2))
    assert "8 of 8 answers of promoted were made before" in capsys.readouterr().err, "the model was asked before"
    scores = second.json("scores.json")
    assert scores["gates"][0]["reason"].endswith(">= 0 (promoted 0)")
    assert scores["paired_promoted"]["intent.accuracy"]["n"] == 8
    rows = second.jsonl("samples.jsonl")
    assert [row["promoted"] for row in rows] == [row["tuned"] for row in rows], "both are the same weights"
    assert [reference.path for reference in second.manifest.inputs][-1] == "runs/demo/train/0001"
    path = made.train.path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"passed": False}), encoding="utf-8")
    with pytest.raises(ArtifactError, match="the promoted artifact was changed"):
        made.evaluate(gates=gates, train=made.model(3))
