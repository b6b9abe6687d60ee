"""Answers from files and artifacts become items; every fault names its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunewright.core import files
from tunewright.core.errors import ArtifactError
from tunewright.core.runs import Artifact, Output, Workspace, begin
from tunewright.rating.items import read
from tunewright.rating.study import Turn


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def row(id: str, prediction: str, **more: Any) -> dict[str, Any]:
    return {"id": id, "prompt": f"p{id}", "prediction": prediction, **more}


def test_files_are_joined_by_id_whatever_their_order(tmp_path: Path) -> None:
    one = write(tmp_path / "one.jsonl", row("1", "a1"), row("2", "a2", reference="r2"), row("3", "a3"))
    two = write(tmp_path / "two.jsonl", row("2", "b2"), row("1", "b1"))
    pool = read([one, two], root=tmp_path)
    assert pool.systems == ("one", "two")
    assert [(item.id, item.answers) for item in pool.items] == [
        ("1", {"one": "a1", "two": "b1"}),
        ("2", {"one": "a2", "two": "b2"}),
    ]
    assert pool.items[1].reference == "r2"
    assert pool.notes == ("1 items that not all systems answered are left out",)
    assert pool.sources[1].path == "two.jsonl" and pool.sources[1].sha256 == files.sha256(two)


def test_turns_numbers_as_ids_and_samples_side_by_side_are_read(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    path = write(tmp_path / "s.jsonl", {"id": 7, "prompt": turns, "base": "x", "tuned": "y", "base_right": None})
    pool = read([path], root=tmp_path)
    assert pool.systems == ("base", "tuned")
    assert pool.items[0].id == "7"
    assert pool.items[0].turns == (Turn(role="system", content="s"), Turn(role="user", content="u"))


FAULTS: dict[str, tuple[str, str]] = {
    "no json": ("{", "bad.jsonl:1: this is not JSON"),
    "no prompt": ('{"id": "1", "prediction": "x"}', "bad.jsonl:1: prompt: field required"),
    "no object": ("[1]", "bad.jsonl:1: row:"),
    "no answer": ('{"id": "1", "prompt": "p"}', "bad.jsonl: row '1' has no prediction"),
    "twice": ('{"id": "1", "prompt": "p", "prediction": "x"}\n' * 2, "bad.jsonl:2: the id '1' stands twice"),
    "surrogate": ('{"id": "1", "prompt": "p", "prediction": "\\ud800"}', "bad.jsonl:1: the row holds half a character"),
    "empty": ("\n\n", "bad.jsonl: the file has no rows"),
}


@pytest.mark.parametrize(("text", "problem"), FAULTS.values(), ids=FAULTS)
def test_faults_name_the_line(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ArtifactError) as raised:
        read([path], root=tmp_path)
    assert problem in str(raised.value)


def test_pools_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    one = write(tmp_path / "one.jsonl", row("1", "a"))
    with pytest.raises(ArtifactError, match="one system only"):
        read([one], root=tmp_path)
    with pytest.raises(ArtifactError, match="no item was answered by all"):
        read([one, write(tmp_path / "two.jsonl", row("2", "a"))], root=tmp_path)
    other = write(tmp_path / "three.jsonl", {"id": "1", "prompt": "another", "prediction": "a"})
    with pytest.raises(ArtifactError, match="item '1' has one prompt for one and another for three"):
        read([one, other], root=tmp_path)
    with pytest.raises(ArtifactError, match="no such file"):
        read([one, tmp_path / "none.jsonl"], root=tmp_path)


def test_files_of_one_name_get_names_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    paths = [write(tmp_path / folder / "answers.jsonl", row("1", folder)) for folder in "xy"]
    assert read(paths, root=tmp_path).systems == ("answers", "y:answers")


def evaluated(root: Path, number: int = 1, tuned: str = "tuned") -> Artifact:
    """An evaluate artifact over a data artifact with one conversation of four turns."""
    workspace = Workspace(root, "demo")
    data = begin(workspace, "data", {"n": 1}, ())
    if isinstance(data, Output):
        turns = [("system", "be kind"), ("user", "hi"), ("assistant", "yes?"), ("user", "card?"), ("assistant", "ref")]
        conversation = [{"role": role, "content": content} for role, content in turns]
        files.write_jsonl(data.path / "test.jsonl", [{"id": "a:1", "conversation": conversation, "metadata": {}}])
        data = data.seal()
    output = begin(workspace, "evaluate", {"n": number}, (workspace.reference(data),))
    assert isinstance(output, Output)
    shown = "user: hi\nassistant: yes?\nuser: card?"
    sample = {"id": "a:1", "prompt": shown, "reference": "ref", "base": "b", "tuned": tuned, "metadata": {"k": "v"}}
    files.write_jsonl(output.path / "samples.jsonl", [sample])
    return output.seal()


def test_an_artifact_gives_whole_conversations_and_its_lineage(tmp_path: Path) -> None:
    artifact = evaluated(tmp_path)
    pool = read([artifact.path], root=tmp_path)
    assert [turn.role for turn in pool.items[0].turns] == ["system", "user", "assistant", "user"]
    assert pool.items[0].answers == {"base": "b", "tuned": "tuned"}
    assert pool.sources[0].path == "runs/demo/evaluate/0001"
    assert pool.sources[0].sha256 == artifact.manifest_sha256
    assert pool.sources[0].split == "test"


def test_two_evaluations_share_their_base(tmp_path: Path) -> None:
    paths = [evaluated(tmp_path, 1).path, evaluated(tmp_path, 2, "tuned better").path]
    pool = read(paths, root=tmp_path)
    assert pool.systems == ("base", "tuned", "0002:tuned")
    assert pool.items[0].answers["0002:tuned"] == "tuned better"


def test_a_changed_artifact_is_refused(tmp_path: Path) -> None:
    artifact = evaluated(tmp_path)
    (artifact.path / "samples.jsonl").write_text("{}\n")
    with pytest.raises(ArtifactError, match="changed after its stage sealed it"):
        read([artifact.path], root=tmp_path)
