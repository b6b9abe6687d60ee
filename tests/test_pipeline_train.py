"""What the pipeline hands to `train`: the project's own metrics over answers, asked as the tuned model is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunewright.core import files
from tunewright.core.chat import Conversation, Message
from tunewright.core.errors import ConfigError
from tunewright.core.runs import Artifact, Output, Workspace, begin
from tunewright.pipeline import Stages
from tunewright.project import ProjectConfig

LABELS = ("fee", "card", "loan")


def rows(count: int, start: int) -> list[dict[str, Any]]:
    """Intent rows, and every fourth one a free answer."""
    found = []
    for number in range(start, start + count):
        label = LABELS[number % 3]
        is_intent = number % 4 != 0
        turns = (
            Message(role="user", content=f"{label} {number}"),
            Message(role="assistant", content=label if is_intent else f"about the {label}"),
        )
        metadata = {"task": "intent", "intent": label} if is_intent else {"task": "answer"}
        found.append(Conversation(id=f"made:{number}", messages=turns, metadata=metadata).to_row())
    return found


def stages(root: Path, **train: Any) -> tuple[Stages, Artifact]:
    workspace = Workspace(root, "made")
    output = begin(workspace, "data", {"made": True}, ())
    assert isinstance(output, Output)
    for split, count, start in (("train", 24, 0), ("validation", 12, 100), ("test", 6, 200)):
        files.write_jsonl(output.path / f"{split}.jsonl", rows(count, start))
    intent = {"name": "intent", "where": {"metadata.task": "intent"}, "labels_in_prompt": "all"}
    rouge = {"name": "rouge", "where": {"metadata.task": "answer"}}
    project = ProjectConfig.model_validate(
        {
            "name": "made",
            "model": {"path": "builtin:tiny", "dtype": "float32"},
            "data": {"sources": ["none.jsonl"]},
            "train": {"epochs": 3, "rows_per_step": 8, "learning_rate": 5e-3, "evaluations_per_epoch": 1} | train,
            "evaluate": {"metrics": [intent, rouge, {"name": "latency"}]},
        }
    )
    return Stages(project, workspace, "made.yaml"), output.seal()


def test_the_metrics_of_evaluate_are_measured_while_training(tmp_path: Path) -> None:
    generated = {"evaluate_generated": {"rows": 8, "max_new_tokens": 8}, "early_stopping": {"metric": "rouge1"}}
    runner, data = stages(tmp_path, **generated)
    artifact = runner.run("train", {"data": data})
    metrics = {entry["metric"]: entry for entry in artifact.json("curve.json")["metrics"]}
    assert set(metrics) == {"intent.accuracy", "intent.macro_f1", "intent.unparseable", "rouge1", "rouge2", "rougeL"}
    assert metrics["intent.accuracy"]["n"] + metrics["rouge1"]["n"] == 8
    assert metrics["intent.unparseable"]["higher_is_better"] is False
    assert [point["step"] for point in metrics["rouge1"]["points"]] == [3, 6, 9]
    assert artifact.manifest.facts["best_metric"] == "rouge1"
    assert artifact.manifest.config["generated"]["metrics"][0]["name"] == "intent"


def test_other_metrics_train_again_only_where_they_are_used(tmp_path: Path) -> None:
    runner, data = stages(tmp_path)
    first = runner.run("train", {"data": data})
    fewer = runner.project.evaluate.model_copy(update={"metrics": runner.project.evaluate.metrics[:1]})
    runner.project = runner.project.model_copy(update={"evaluate": fewer})
    assert runner.run("train", {"data": data}).path == first.path
    assert "generated" not in first.manifest.config


def test_a_metric_of_constrained_choice_cannot_stop_training(tmp_path: Path) -> None:
    settings = {"evaluate_generated": {}, "early_stopping": {"metric": "intent_choice.accuracy"}}
    runner, data = stages(tmp_path, **settings)
    with pytest.raises(ConfigError, match=r"nothing measures 'intent_choice\.accuracy'") as caught:
        runner.run("train", {"data": data})
    assert caught.value.fix.startswith("known: validation_loss, intent.accuracy")
