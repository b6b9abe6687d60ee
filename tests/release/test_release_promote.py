"""Promotion, rollback, approvals and the history."""

from __future__ import annotations

import json
from typing import Any

import pytest
from release_kit import SIGNED, Shop, rewrite, spoil

from tunewright.cli import main
from tunewright.core import promoted
from tunewright.release import history


def run(capsys: pytest.CaptureFixture[str], shop: Shop, *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["promote", str(shop.file), *words])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err


def test_a_proven_model_is_promoted(good: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, good, *SIGNED)
    assert code == 0, err
    train = good.newest("train")
    current = promoted.read(good.workspace)
    assert current is not None
    assert (current.artifact, current.variant) == ("runs/bank/train/0001", "tuned")
    assert current.manifest_sha256 == train.manifest_sha256 and current.by == "Mei"
    history = [json.loads(line) for line in (good.root / "models/bank/history.jsonl").read_text("utf-8").splitlines()]
    assert [(row["kind"], row["by"], row["why"]) for row in history] == [("promote", "Mei", "better on the test rows")]
    assert history[0]["scores"]["intent.accuracy"]["value"] == pytest.approx(0.8)
    assert history[0]["hash"] == current.entry and current.entry in out
    assert (good.root / "models/bank/LICENSE-NOTES.md").read_text("utf-8").startswith("# Licence notes")


def test_another_process_sees_the_old_pointer_or_the_new_one(good: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    """Promoting again changes nothing, and no temporary file is left beside the pointer."""
    assert run(capsys, good, *SIGNED)[0] == 0
    before = {path.name: path.read_bytes() for path in (good.root / "models/bank").iterdir()}
    code, out, _ = run(capsys, good, *SIGNED)
    assert code == 0 and "is the promoted model already" in out
    assert {path.name: path.read_bytes() for path in (good.root / "models/bank").iterdir()} == before
    assert set(before) == {".lock", "current", "history.jsonl", "LICENSE-NOTES.md"}


def test_a_dry_run_decides_and_moves_nothing(good: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    junit = good.root / "gates.xml"
    code, out, _ = run(capsys, good, "--dry-run", "--junit", str(junit))
    assert code == 0 and "may be promoted" in out and "intent.accuracy >= base + 0.5" in out
    assert 'failures="0"' in junit.read_text("utf-8") and 'name="gates"' in junit.read_text("utf-8")
    assert not (good.root / "models").exists()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ((), "`promote` needs --by"),
        (("--by", "Mei"), "`promote` needs --why"),
        (("--by", " ", "--why", "x"), "`promote` needs --by"),
        (("--by", "a\nb", "--why", "x"), "--by must be one line"),
        (("--rollback",), "`promote --rollback` needs --by"),
        (("--rollback", "--verify"), "one of --rollback and --verify at a time"),
    ],
)
def test_nobody_promotes_without_a_name_and_a_reason(
    good: Shop, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], problem: str
) -> None:
    code, _, err = run(capsys, good, *words)
    assert code == 2 and problem in err
    assert promoted.read(good.workspace) is None


def second(shop: Shop) -> None:
    """Another model as good as the first, trained on the same rows."""
    shop.plant(shop.train("fee", steps=3, mark="second"))


def test_rollback_goes_back_through_what_was_promoted(good: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, good, "--rollback", *SIGNED)[0] == 3
    assert run(capsys, good, *SIGNED)[0] == 0
    code, _, err = run(capsys, good, "--rollback", *SIGNED)
    assert code == 3 and "no earlier promoted model" in err
    second(good)
    assert run(capsys, good, "--by", "Ben", "--why", "newer")[0] == 0
    current = promoted.read(good.workspace)
    assert current is not None and current.artifact == "runs/bank/train/0002"
    code, out, _ = run(capsys, good, "--rollback", "--by", "Mei", "--why", "complaints")
    assert code == 0 and "back to runs/bank/train/0001" in out
    current = promoted.read(good.workspace)
    assert current is not None and current.artifact == "runs/bank/train/0001"
    assert run(capsys, good, "--rollback", *SIGNED)[0] == 3, "there is nothing before the first"
    assert run(capsys, good, "--verify")[0] == 0
    code, out, _ = run(capsys, good, "--history")
    assert [line.split()[3] for line in out.splitlines()[::2]] == ["rollback", "promote", "promote"]
    assert "by Mei: complaints" in out and "intent.accuracy 0.8" in out


def test_rollback_takes_less_than_a_second_and_loads_no_torch(good: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    import resource
    import subprocess
    import sys

    run(capsys, good, *SIGNED)
    second(good)
    run(capsys, good, *SIGNED)
    code = (
        "import sys; from tunewright.cli import main; code = main(sys.argv[1:]);"
        "assert not {'torch', 'transformers'} & set(sys.modules); raise SystemExit(code)"
    )
    command = [sys.executable, "-c", code, "promote", str(good.file), "--rollback", *SIGNED]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 1.5, (
        "1 s; a loaded machine is slow"
    )


def test_a_rollback_to_something_changed_is_refused(good: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, good, *SIGNED)
    second(good)
    run(capsys, good, *SIGNED)
    spoil(good.root / "runs/bank/train/0001/adapter/adapter_model.safetensors", keep=100)
    code, _, err = run(capsys, good, "--rollback", *SIGNED)
    assert code == 3 and "adapter/adapter_model.safetensors is missing or has another size" in err
    current = promoted.read(good.workspace)
    assert current is not None and current.artifact == "runs/bank/train/0002"


def test_two_people_must_approve_the_same_bytes(good: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    four_eyes = ("release.approvals=2",)
    code, out, _ = run(capsys, good, *four_eyes, *SIGNED)
    assert code == 0 and "1 more approval by other people" in out
    assert promoted.read(good.workspace) is None
    code, _, err = run(capsys, good, *four_eyes, "--by", "mei ", "--why", "again")
    assert code == 2 and "mei has approved this artifact already; another person must" in err
    second(good)
    code, out, _ = run(capsys, good, *four_eyes, "--by", "Ben", "--why", "other bytes")
    assert code == 0 and "1 more approval" in out, "Mei approved another artifact"
    first = good.root / "runs/bank/train/0001"
    code, out, _ = run(capsys, good, *four_eyes, "--from", str(first), "--by", "Ben", "--why", "seen")
    assert code == 0 and "by Mei, Ben" in out
    current = promoted.read(good.workspace)
    assert current is not None and current.artifact == "runs/bank/train/0001"
    code, out, _ = run(capsys, good, "--history", "--json")
    assert [row["kind"] for row in json.loads(out)] == ["approve", "approve", "promote"]
    assert json.loads(out)[-1]["approved_by"] == ["Mei", "Ben"]


def _third(rows: list[Any]) -> list[Any]:
    return [*rows[:-1], rows[-1] | {"why": "no complaints"}]


TAMPERED = {
    "a reason changed": (_third, "line 3: it was changed after it was written"),
    "a score changed": (
        lambda rows: [rows[0] | {"scores": {"intent.accuracy": {"value": 0.99}}}, *rows[1:]],
        "line 1: it was changed after",
    ),
    "a line removed": (lambda rows: [rows[0], rows[2]], "lines were removed, added or swapped"),
    "lines swapped": (lambda rows: [rows[1], rows[0], rows[2]], "lines were removed, added or swapped"),
    "the end cut off": (lambda rows: rows[:2], "names an entry that the history does not have"),
    "all cut off": (lambda rows: [], "names an entry that the history does not have"),
    "a field added": (lambda rows: [rows[0] | {"note": "x"}, *rows[1:]], "line 1: it was changed after"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_changed_history_shows_and_stops_everything(
    good: Shop, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    run(capsys, good, *SIGNED)
    second(good)
    run(capsys, good, *SIGNED)
    run(capsys, good, "--rollback", *SIGNED)
    assert run(capsys, good, "--verify")[0] == 0
    change, problem = TAMPERED[name]
    path = good.root / "models/bank/history.jsonl"
    rows = change([json.loads(line) for line in path.read_text("utf-8").splitlines()])
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    code, out, _ = run(capsys, good, "--verify")
    assert code == 3 and problem in out
    for words in (SIGNED, ("--rollback", *SIGNED)):
        code, _, err = run(capsys, good, *words)
        assert code == 5 and problem in err


def test_a_changed_pointer_and_changed_weights_show(good: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, good, "--verify")[1] == "nothing was promoted yet\n"
    run(capsys, good, *SIGNED)
    pointer = good.root / "models/bank/current"
    kept = pointer.read_bytes()
    rewrite(pointer, lambda value: value | {"artifact": "runs/bank/train/0009"})
    assert "names another artifact than the newest promotion" in run(capsys, good, "--verify")[1]
    pointer.write_bytes(kept[:20])
    code, _, err = run(capsys, good, "--verify")
    assert code == 3 and "the pointer to the promoted model is damaged" in err
    pointer.unlink()
    assert "there is no pointer 'current'" in run(capsys, good, "--verify")[1]
    pointer.write_bytes(kept)
    spoil(good.root / "runs/bank/train/0001/adapter/adapter_model.safetensors")
    code, out, _ = run(capsys, good, "--verify")
    assert code == 3 and "adapter_model.safetensors: this file was changed" in out


@pytest.mark.parametrize("step", ["append", "point"])
def test_a_kill_in_the_middle_of_a_promotion_is_finished_by_the_next_command(
    good: Shop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Killed before the history has the entry, nothing moved; killed after it, the pointer follows."""
    assert run(capsys, good, *SIGNED)[0] == 0
    first = promoted.read(good.workspace)
    second(good)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(history, step, killed)
        assert run(capsys, good, *SIGNED)[0] == 130
    assert promoted.read(good.workspace) == first
    code, out, _ = run(capsys, good, "--verify")
    assert code == 3 and "was interrupted; the next one finishes it first" in out
    code, out, _ = run(capsys, good, *SIGNED)
    assert code == 0 and ("is the promoted model already" in out) is (step == "point")
    current = promoted.read(good.workspace)
    assert current is not None and current.artifact == "runs/bank/train/0002"
    assert [entry.artifact for entry in history.read(good.workspace)] == ["runs/bank/train/0001", current.artifact]
    assert run(capsys, good, "--verify")[0] == 0
    assert run(capsys, good, "--rollback", *SIGNED)[0] == 0
    assert promoted.read(good.workspace).artifact == "runs/bank/train/0001"  # type: ignore[union-attr]


def test_what_is_promoted_is_not_pruned(good: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, good, *SIGNED)
    good.train("card", steps=2, mark="newer")
    good.train("card", steps=2, mark="newest")
    assert main(["runs", "prune", str(good.file), "--keep", "1"]) == 0
    assert (good.root / "runs/bank/train/0001/manifest.json").exists()
    assert not (good.root / "runs/bank/train/0002").exists()
    assert run(capsys, good, "--verify")[0] == 0


def test_the_promoted_model_is_served(good: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    from tunewright.core.errors import ArtifactError
    from tunewright.serve.choose import choose

    run(capsys, good, *SIGNED)
    good.train("card", steps=2, mark="newer")
    choice = choose(good.workspace, good.project.model)
    assert choice.artifact.path.name == "0001" and choice.variant == "tuned"
    assert "promoted by Mei at 20" in choice.sentence
    assert choice.load().context == 512
    named = choose(good.workspace, good.project.model, source_directory=good.newest("train").path)
    assert named.artifact.path.name == "0002", "what is named on the command line wins"
    rewrite(good.root / "runs/bank/train/0001/manifest.json", lambda value: value | {"passed": False})
    with pytest.raises(ArtifactError, match="the promoted artifact was changed after it was promoted"):
        choose(good.workspace, good.project.model)


def test_a_second_process_waits(good: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    from tunewright.release import history

    with history.locked(good.workspace):
        code, _, err = run(capsys, good, *SIGNED)
    assert code == 1 and "another process is promoting" in err
