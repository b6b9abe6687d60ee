"""Artifacts: nothing half-written looks whole, nothing changed goes unnoticed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tunewright.core import files, manifest, runs
from tunewright.core.errors import ArtifactError, ResourceError
from tunewright.core.runs import Artifact, Output, Workspace, begin


def seal(workspace: Workspace, stage: str, text: str, *inputs: Artifact, passed: bool = True) -> Artifact:
    output = begin(workspace, stage, {"text": text}, tuple(workspace.reference(item) for item in inputs))
    assert isinstance(output, Output)
    files.write_text(output.path / "a.txt", text)
    return output.seal(passed=passed)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path, "p")


def test_same_settings_and_inputs_give_the_finished_artifact(workspace: Workspace) -> None:
    first = seal(workspace, "data", "x")
    again = begin(workspace, "data", {"text": "x"}, ())
    assert isinstance(again, Artifact)
    assert again.path == first.path
    other = begin(workspace, "data", {"text": "y"}, ())
    assert isinstance(other, Output)
    assert other.path.name == "0002"


def test_a_changed_input_makes_a_new_artifact(workspace: Workspace) -> None:
    one, two = seal(workspace, "data", "1"), seal(workspace, "data", "2")
    trained = seal(workspace, "train", "t", one)
    assert isinstance(begin(workspace, "train", {"text": "t"}, (workspace.reference(one),)), Artifact)
    assert isinstance(begin(workspace, "train", {"text": "t"}, (workspace.reference(two),)), Output)
    assert trained.manifest.inputs[0].path == "runs/p/data/0001"


def test_unfinished_is_emptied_or_continued_but_never_read(workspace: Workspace) -> None:
    for resumable in (False, True):
        output = begin(workspace, "train", {"r": resumable}, (), resumable=resumable)
        assert isinstance(output, Output)
        (output.path / "half").write_text("half")
        output.release()
        assert workspace.finished("train") == []
        with pytest.raises(ArtifactError, match="no finished 'train' artifact"):
            workspace.newest("train")
        again = begin(workspace, "train", {"r": resumable}, (), resumable=resumable)
        assert isinstance(again, Output)
        assert again.path == output.path
        assert again.resumed is resumable
        assert (again.path / "half").exists() is resumable
        again.release()


def test_two_processes_do_not_write_one_folder(workspace: Workspace) -> None:
    output = begin(workspace, "data", {}, ())
    assert isinstance(output, Output)
    if (child := os.fork()) == 0:
        try:
            begin(workspace, "data", {}, ())
        except ResourceError as error:
            os._exit(0 if "another process" in str(error) else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_changed_or_missing_file_is_refused(workspace: Workspace) -> None:
    sealed = seal(workspace, "data", "x")
    (sealed.path / "a.txt").write_text("y")
    with pytest.raises(ArtifactError, match=r"a\.txt: this file was changed after its stage sealed it"):
        Artifact.open(sealed.path).file("a.txt")
    (sealed.path / "a.txt").unlink()
    with pytest.raises(ArtifactError, match="is missing"):
        Artifact.open(sealed.path).file("a.txt")
    with pytest.raises(ArtifactError, match=r"has no file 'b\.txt'"):
        Artifact.open(sealed.path).file("b.txt")


def test_a_damaged_manifest_is_one_sentence(workspace: Workspace) -> None:
    sealed = seal(workspace, "data", "x")
    (sealed.path / manifest.NAME).write_text('{"stage":')
    with pytest.raises(ArtifactError, match="the manifest is damaged"):
        Artifact.open(sealed.path)


def test_verify_follows_the_lineage(workspace: Workspace) -> None:
    data = seal(workspace, "data", "x")
    seal(workspace, "train", "t", data)
    assert runs.verify(workspace) == []
    text = (data.path / manifest.NAME).read_text().replace('"passed": true', '"passed": false')
    (data.path / manifest.NAME).write_text(text)
    faults = runs.verify(workspace)
    assert len(faults) == 1
    assert "its input runs/p/data/0001 has changed since" in faults[0]


def test_newest_skips_what_did_not_pass(workspace: Workspace) -> None:
    good = seal(workspace, "data", "x")
    seal(workspace, "data", "y", passed=False)
    assert workspace.newest("data").path == good.path


def test_prune_keeps_the_newest_and_what_they_were_made_from(workspace: Workspace) -> None:
    old, newer = seal(workspace, "data", "1"), seal(workspace, "data", "2")
    seal(workspace, "train", "t", old)
    third = seal(workspace, "data", "3")
    begin(workspace, "evaluate", {}, ())  # still being written by this process
    gone = runs.prunable(workspace, keep=1)
    assert gone == [newer.path]
    assert third.path not in gone
    assert runs.freed_bytes(gone) == sum(path.stat().st_size for path in newer.path.rglob("*") if path.is_file())


def test_hard_links_count_once(workspace: Workspace, tmp_path: Path) -> None:
    sealed = seal(workspace, "data", "x" * 1000)
    before = runs.freed_bytes([sealed.path])
    files.link_or_copy(sealed.path / "a.txt", tmp_path / "kept.txt")
    assert before - runs.freed_bytes([sealed.path]) == 1000


def test_an_atomic_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"a": float("nan")})
    with pytest.raises(RuntimeError), files.atomic_write(path) as handle:
        handle.write("half")
        raise RuntimeError
    assert json.loads(path.read_text()) == {"a": 1}
    assert [child.name for child in tmp_path.iterdir()] == ["f.json"]


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with (
        pytest.raises(ResourceError, match="the disk is full"),
        files.disk_errors(tmp_path),
        Path("/dev/full").open("w") as full,
    ):
        full.write("x")
        full.flush()
