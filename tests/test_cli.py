"""What a user types and reads: every fault is one clear sentence with the documented exit code and no traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunewright import cli
from tunewright.cli import main
from tunewright.verbs.table import OPTIONS

PROJECT = "name: p\nmodel: {path: builtin:tiny}\ndata: {sources: [rows.jsonl]}\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    path = tmp_path / "p.yaml"
    path.write_text(PROJECT)
    row = '{"conversation": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
    (tmp_path / "here.jsonl").write_text(row)
    return path


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main([*words])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err


FAULTS = {
    "unknown verb": (["trian", "P"], 2, "there is no verb 'trian'", "did you mean 'train'"),
    "no subverb": (["runs", "P"], 2, "`runs` needs one of list, show, verify, prune", "tunewright runs list"),
    "unknown option": (["train", "P", "--dryrun"], 2, "`train` has no option '--dryrun'", "did you mean '--dry-run'"),
    "missing project": (["train", "none.yaml"], 2, "none.yaml: there is no such file", "init"),
    "two projects": (["train", "P", "q.yaml"], 2, "one project file at a time", ""),
    "bad override": (["train", "P", "train.epoch=3"], 2, "command line: train.epoch: unknown key", "'epochs'"),
    "missing source": (["data", "P"], 3, "rows.jsonl", "next step:"),
    "no artifact yet": (["train", "P"], 3, "there is no finished 'data' artifact that passed", "tunewright data"),
    "nothing to serve": (["serve", "P"], 3, "there is no", "next step:"),
    "missing --from": (["train", "P", "--from", "nowhere"], 3, "there is no such directory", "runs list"),
    "--from without value": (["train", "P", "--from"], 2, "--from needs a value", ""),
    "unknown model": (
        ["run", "P", "model.path=no/such/model/here", "data.sources=[here.jsonl]"],
        3,
        "there is no model at this path",
        "model.path",
    ),
    "unknown built-in": (
        ["run", "P", "model.path=builtin:smollm3", "data.sources=[here.jsonl]"],
        2,
        "no built-in model",
        "builtin:tiny",
    ),
    "prune without number": (["runs", "prune", "P"], 2, "needs --keep N", "--dry-run"),
    "prune with a word": (["runs", "prune", "P", "--keep", "all"], 2, "--keep needs a number", ""),
    "show without folder": (["runs", "show", "P"], 2, "needs an artifact's folder", "runs list"),
    "folder for a file": (["data", "."], 2, "no project file was named", "make one: `tunewright init finance DIR`"),
    "find both": (
        ["data", "find", "P", "Wei", "--id", "a.jsonl:1"],
        2,
        "one text or row id, not 2",
        "--text 'Zhang Wei'",
    ),
    "find nothing": (["data", "find", "P"], 2, "takes one text or row id", "--id raw/support.jsonl:17"),
    "purge no id": (["data", "purge", "P", "--id", "Wei"], 2, "this is no row id", "--text"),
    "init without folder": (["init", "finance"], 2, "`init` takes a kind", "tunewright init finance"),
    "init unknown kind": (["init", "bakery", "x"], 2, "bakery", "finance"),
    "plugins unknown kind": (["plugins", "rulez"], 2, "there is no kind 'rulez'", "rules"),
}


@pytest.mark.parametrize(("words", "code", "problem", "step"), FAULTS.values(), ids=FAULTS)
def test_faults(
    project: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, problem: str, step: str
) -> None:
    found, out, err = run(capsys, *[str(project) if word == "P" else word for word in words])
    assert found == code, err
    assert problem in err
    assert step in err
    assert out == ""


def test_no_project_file_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, "train")
    assert code == 2
    assert "there is no project.yaml here" in err


def test_every_verb_has_help_and_an_existing_handler(capsys: pytest.CaptureFixture[str]) -> None:
    import importlib

    _, out, _ = run(capsys, "--help")
    for name, verb in cli.VERBS.items():
        assert f"  {name} " in out
        code, text, _ = run(capsys, name, "--help")
        assert code == 0
        assert verb.summary in text
        module, _, function = verb.handler.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_an_option_of_another_verb_is_refused_and_help_shows_own_ones_only(capsys: pytest.CaptureFixture[str]) -> None:
    for name, option in OPTIONS.items():
        for verb in cli.VERBS:
            takes = not option.verbs or verb in option.verbs
            _, text, _ = run(capsys, verb, "--help")
            assert (f"  {name} " in text) is takes
    assert run(capsys, "data", "--rollback") == (
        2,
        "",
        "error: `data` has no option '--rollback'\n  next step: it belongs to promote\n",
    )


def test_a_folder_with_a_project_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "blank", str(tmp_path / "bot")]) == 0
    code, _, err = run(capsys, "data", str(tmp_path / "bot"))
    assert code == 2 and f"name {tmp_path / 'bot'}/project.yaml" in err


def test_dry_run_does_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "run", str(project), "--dry-run", "--json")
    assert code == 0
    assert json.loads(out)["stages"] == ["data", "train", "evaluate", "quantize", "serve", "report"]
    assert not (project.parent / "runs").exists()


def test_a_disk_that_cannot_hold_it_is_refused_before_anything_starts(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    usage = psutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(psutil, "disk_usage", lambda _: usage)
    code, _, err = run(capsys, "run", str(project))
    assert code == 1
    assert "of disk and 1.0 kB are free" in err
    assert "prune" in err
    assert not (project.parent / "runs").exists()


def test_config_check_explain_and_plugins(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "config", "check", str(project)) == (0, f"{project}: fine\n", "")
    _, out, _ = run(capsys, "config", "explain", str(project))
    assert 'model.revision = "main"  (default)\n' in out
    assert "model.path =" not in out
    _, out, _ = run(capsys, "plugins", "--json")
    kinds = {"rules", "augmenters", "translators", "methods", "shardings", "metrics", "rivals", "classifiers"}
    kinds |= {"schemes", "engines"}
    assert set(json.loads(out)) == kinds
    _, out, _ = run(capsys, "config", "schema")
    assert json.loads(out)["additionalProperties"] is False


def test_debug_shows_the_traceback(project: Path) -> None:
    from tunewright.core.errors import ArtifactError

    with pytest.raises(ArtifactError):
        main(["train", str(project), "--debug"])
