"""Two runs side by side: what differs, and a paired test on the rows both answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunewright.advise import compare
from tunewright.cli import main
from tunewright.core import files
from tunewright.core.errors import ArtifactError
from tunewright.core.runs import Artifact, Output, Workspace, begin
from tunewright.core.scoring import mcnemar

METRICS = {"metrics": [{"name": "intent"}], "primary": "intent.accuracy"}
PROJECT = "name: made\nmodel: {path: builtin:tiny}\ndata: {sources: [rows.jsonl]}\n"


def sealed(output: Output | Artifact) -> Artifact:
    assert isinstance(output, Output)
    return output.seal()


def data_artifact(workspace: Workspace) -> Artifact:
    output = begin(workspace, "data", {}, ())
    assert isinstance(output, Output)
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "fee"}]
    files.write_jsonl(
        output.path / "train.jsonl", [{"id": "t:1", "conversation": turns, "metadata": {"intent": "fee"}}]
    )
    return output.seal()


def train_artifact(workspace: Workspace, data: Artifact, rate: float, loss: float) -> Artifact:
    config = {"train": {"learning_rate": rate, "method": {"name": "lora", "rank": 8}}, "seed": 7}
    output = begin(workspace, "train", config, (workspace.reference(data),))
    assert isinstance(output, Output)
    output.facts |= {"method": "lora", "validation_loss": loss, "seconds": 12.5, "peak_memory_bytes": 1_500_000_000}
    return output.seal()


def evaluation(
    workspace: Workspace, train: Artifact, answers: dict[str, str], config: dict[str, Any] | None = None
) -> Artifact:
    """Every row's right answer is "fee"."""
    known = {"evaluate": config or METRICS, "seed": 7}
    output = begin(workspace, "evaluate", known, (workspace.reference(train),))
    assert isinstance(output, Output)
    rows = [
        {"id": id, "prompt": f"question {id}", "reference": "fee", "tuned": said, "metadata": {"intent": "fee"}}
        for id, said in answers.items()
    ]
    right = sum(said == "fee" for said in answers.values()) / len(answers)
    score = {"value": right, "low": 0.0, "high": 1.0, "n": len(rows), "unit": ""}
    files.write_jsonl(output.path / "samples.jsonl", rows)
    files.write_json(output.path / "scores.json", {"tuned": {"intent.accuracy": score}, "labels": ["fee"]})
    return sealed(output)


def answers(right: range, of: int = 20) -> dict[str, str]:
    return {f"row:{number}": "fee" if number in right else "card" for number in range(of)}


@pytest.fixture
def made(tmp_path: Path) -> tuple[Workspace, Artifact, Artifact]:
    (tmp_path / "p.yaml").write_text(PROJECT)
    workspace = Workspace(tmp_path, "made")
    data = data_artifact(workspace)
    return (
        workspace,
        train_artifact(workspace, data, rate=1e-3, loss=0.5),
        train_artifact(workspace, data, rate=2e-3, loss=0.25),
    )


def compared(workspace: Workspace, first: str = "1", second: str = "2") -> dict[str, Any]:
    return compare.compare(compare.find(workspace, first), compare.find(workspace, second), workspace=workspace)


def test_settings_and_facts(made: tuple[Workspace, Artifact, Artifact]) -> None:
    workspace, _, _ = made
    found = compared(workspace)
    assert found["settings"] == {"train.learning_rate": [1e-3, 2e-3]}
    assert found["facts"]["validation_loss"] == [0.5, 0.25]
    assert found["rows"] == "the same"
    assert found["not_paired"] == "runs/made/train/0001 was not evaluated"
    text = compare.text(found)
    assert "0.5000" in text and "1.5 GB" in text and "no paired test" in text


def test_the_same_rows_give_a_paired_test(made: tuple[Workspace, Artifact, Artifact]) -> None:
    """B has rows 0..9 right, A rows 0..1: 8 gained, none lost, so McNemar's p is 2 / 2 ** 8."""
    workspace, first, second = made
    evaluation(workspace, first, answers(range(2)))
    evaluation(workspace, second, answers(range(10)))
    found = compared(workspace)
    paired = found["paired"]["intent.accuracy"]
    assert found["rows_in_common"] == 20
    assert paired["difference"] == pytest.approx(0.4)
    assert paired["p"] == pytest.approx(2 / 2**8)
    assert paired["test"] == "McNemar"
    assert paired["verdict"].startswith("better")
    assert compared(workspace, "2", "1")["paired"]["intent.accuracy"]["verdict"].startswith("worse")


def test_no_difference_is_said(made: tuple[Workspace, Artifact, Artifact]) -> None:
    workspace, first, second = made
    evaluation(workspace, first, answers(range(5)))
    evaluation(workspace, second, answers(range(3, 8)))
    found = compared(workspace)
    assert found["paired"]["intent.accuracy"]["p"] == pytest.approx(
        mcnemar([True] * 3 + [False] * 3, [False] * 3 + [True] * 3)
    )
    assert "no difference shown" in compare.text(found)


def test_only_rows_that_both_answered_are_paired(made: tuple[Workspace, Artifact, Artifact]) -> None:
    workspace, first, second = made
    evaluation(workspace, first, answers(range(20)))
    few = {f"row:{n}": "card" for n in range(15, 30)}
    evaluation(workspace, second, few)
    found = compared(workspace)
    assert found["rows_in_common"] == 5
    assert found["paired"]["intent.accuracy"]["difference"] == -1


@pytest.mark.parametrize(
    ("said", "config", "reason"),
    [
        ({"other:1": "fee"}, None, "no test row in common"),
        ({"row:1": "fee"}, {"metrics": [{"name": "intent"}, {"name": "rouge"}]}, "different metrics"),
    ],
)
def test_why_nothing_is_paired(
    made: tuple[Workspace, Artifact, Artifact], said: dict[str, str], config: dict[str, Any] | None, reason: str
) -> None:
    workspace, first, second = made
    evaluation(workspace, first, answers(range(3)))
    evaluation(workspace, second, said, config)
    found = compared(workspace)
    assert found["paired"] == {}
    assert reason in found["not_paired"]


def test_runs_are_named_by_number_folder_or_evaluation(made: tuple[Workspace, Artifact, Artifact]) -> None:
    workspace, first, _ = made
    evaluate = evaluation(workspace, first, answers(range(3)))
    for name in ("1", "train/0001", "runs/made/train/0001", str(first.path), "evaluate/0001", str(evaluate.path)):
        run = compare.find(workspace, name)
        assert run.train.path.resolve() == first.path.resolve()
        assert run.evaluate is not None
    with pytest.raises(ArtifactError, match="this is a 'data' artifact"):
        compare.find(workspace, "data/0001")
    with pytest.raises(ArtifactError, match="no such run"):
        compare.find(workspace, "nowhere")
    with pytest.raises(ArtifactError, match="no finished artifact"):
        compare.find(workspace, "9")


def test_on_the_command_line(
    made: tuple[Workspace, Artifact, Artifact], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    project = str(tmp_path / "p.yaml")
    assert main(["runs", "compare", project, "1", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"] == {"train.learning_rate": [1e-3, 2e-3]}
    assert main(["runs", "compare", project, "1"]) == 2
    assert "takes two runs" in capsys.readouterr().err
