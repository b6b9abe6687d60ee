"""`tunewright rate` as it is typed: pages, results, exports, and every refusal with its next step."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from rating_kit import said, served, write_answers

from tunewright.cli import main
from tunewright.core import files
from tunewright.core.runs import Output, Workspace, begin
from tunewright.rating.config import RateConfig
from tunewright.rating.items import read
from tunewright.rating.store import Store


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["rate", *words])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err


@pytest.fixture
def rated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two files of answers and a store in which two raters preferred beta in ten items of ten."""
    monkeypatch.chdir(tmp_path)
    pool = read(write_answers(tmp_path, 10), root=tmp_path)
    store = Store.create(tmp_path / "rating.sqlite", pool, RateConfig())
    for name in ("lin", "wu"):
        rater = store.join(name)
        for position in range(11):
            task = store.task(rater, position)
            assert task is not None
            side = "left" if task.left == "beta" else "right"
            levels = (2, 1) if side == "left" else (1, 2)
            note = {side: "改正"} if position == 0 else None
            store.cast(rater, position, said(side, *levels, corrected=note))
    store.close()
    return tmp_path


def test_results_are_printed_and_dumped(rated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "alpha.jsonl", "beta.jsonl", "--results")
    assert code == 0
    assert "20 votes on 10 items" in out
    assert "beta against alpha: beta is preferred (p 0.002)" in out
    assert "beta wins 1.000 [0.722, 1.000] of 10 decided items" in out, "Wilson for 10 of 10"
    assert "11 of 11" in out and "1.00 [0.207, 1.000] of 1" not in out
    assert run(capsys, "rating.sqlite", "--results")[1] == out, "the store alone is enough"
    dumped = json.loads(run(capsys, "rating.sqlite", "--results", "--json")[1])
    assert dumped["pairs"][0]["items_second"] == 10
    assert dumped["alpha"]["correctness"]["value"] == 1.0
    assert {rater["name"]: rater["preference"]["n"] for rater in dumped["raters"]} == {"lin": 1, "wu": 1}


def test_results_need_neither_torch_nor_a_web_library(rated: Path) -> None:
    code = (
        "import sys; from tunewright.cli import main; code = main(['rate', 'rating.sqlite', '--results']);"
        "heavy = {'torch', 'transformers', 'fastapi', 'uvicorn', 'jinja2'} & set(sys.modules);"
        "assert not heavy, heavy; raise SystemExit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=rated, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_exports(rated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "rating.sqlite", "--export", "preferences")
    pairs = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    by_votes = [pair for pair in pairs if pair["metadata"]["rating"]["kind"] == "votes"]
    assert len(by_votes) + err.count("both answers are the same text") == 10
    assert all("of beta" in pair["chosen"][0]["content"] for pair in by_votes)
    assert by_votes[0]["metadata"]["rating"]["sources"][1]["sha256"] == files.sha256(rated / "beta.jsonl")
    code, out, err = run(capsys, "rating.sqlite", "--export", "votes", "--write", "v.csv")
    assert (code, out) == (0, "") and "rate: 22 votes in v.csv" in err
    assert (rated / "v.csv").read_text(encoding="utf-8-sig").startswith("vote,rater,item")
    _, out, err = run(capsys, "rating.sqlite", "--export", "rows")
    assert json.loads(out.splitlines()[0])["conversation"][-1] == {"role": "assistant", "content": "改正"}
    assert "test split" not in err


REFUSED = {
    "one file": (["alpha.jsonl"], 3, "the answers of one system only", "second one"),
    "no file": (["alpha.jsonl", "gamma.jsonl"], 3, "gamma.jsonl: there is no such file", "path"),
    "nothing": ([], 2, "no project.yaml here", "name one"),
    "two stores": (["a.sqlite", "b.sqlite"], 2, "one store at a time", ""),
    "no store": (["none.sqlite", "--results"], 3, "there are no ratings here", "start the page"),
    "store that is none": (["alpha.jsonl", "--results", "x.sqlite"], 3, "there are no ratings here", ""),
    "unknown option": (["alpha.jsonl", "beta.jsonl", "rate.prot=1"], 2, "prot: unknown key", "did you mean 'port'"),
    "option without prefix": (["alpha.jsonl", "beta.jsonl", "port=1"], 2, "no option 'port=1'", "rate.KEY=VALUE"),
    "unknown export": (["rating.sqlite", "--export", "all"], 2, "no export 'all'", "votes, rows, preferences"),
    "both": (["rating.sqlite", "--export", "rows", "--results"], 2, "two commands", ""),
    "table of rows": (["rating.sqlite", "--export", "rows", "--write", "r.csv"], 2, "a table cannot", "FILE.jsonl"),
    "open host": (["rating.sqlite", "rate.host=0.0.0.0"], 2, "can be reached by others", "rate.raters=lin,mara"),
    "other design": (["rating.sqlite", "rate.repeats=0.3"], 2, "begun with rate.repeats=0.1", "another store"),
    "same name": (["rating.sqlite", "rate.raters=lin,LIN"], 2, "two raters have the same name", ""),
    "other answers": (["beta.jsonl", "alpha.jsonl", "rating.sqlite"], 2, "ratings of other answers", "another store"),
    "project and files": (["p.yaml", "alpha.jsonl"], 2, "not both", ""),
}


@pytest.mark.parametrize(("words", "code", "problem", "step"), REFUSED.values(), ids=REFUSED)
def test_refusals(
    rated: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, problem: str, step: str
) -> None:
    found, out, err = run(capsys, *words)
    assert found == code, err
    assert problem in err and step in err, err
    assert out == ""


def test_a_taken_port_is_named(rated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served(rated, "rating.sqlite") as (url, _, _):
        port = url.rsplit(":", 1)[1]
        code, _, err = run(capsys, "rating.sqlite", f"rate.port={port}")
        assert code == 1 and f"port {port} of 127.0.0.1 is taken" in err and "rate.port=0" in err


def test_a_dry_run_says_what_would_be_shown(rated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "alpha.jsonl", "beta.jsonl", "new.sqlite", "--dry-run")
    assert code == 0
    assert out == "would begin new.sqlite\n10 items of alpha, beta; 11 tasks a rater, 1 of them repeats\n"
    assert not (rated / "new.sqlite").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_named_raters_get_links_and_a_signal_ends_it_cleanly(rated: Path, number: int) -> None:
    with served(rated, "rating.sqlite", "rate.raters=lin,李") as (url, printed, process):
        assert process.stderr is not None
        link = printed.splitlines()[-1].split()[-1]
        assert link.startswith(f"{url}/?token=")
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        assert "<b>lin</b>" in opener.open(link).read().decode()
        process.send_signal(number)
        rest = process.stderr.read()
        assert "Traceback" not in rest and "李" in rest
        assert process.wait(timeout=10) == 0, rest
    assert not (rated / "rating.sqlite-wal").exists(), "the log is folded in"


def test_an_open_host_is_warned_about(rated: Path) -> None:
    with served(rated, "rating.sqlite", "rate.raters=lin", "rate.host=0.0.0.0") as (url, printed, _):
        assert url.startswith("http://THIS-MACHINE:")
        assert "warning: 0.0.0.0 can be reached from other machines" in printed


def test_a_project_rates_its_newest_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = tmp_path / "project.yaml"
    project.write_text("name: p\nseed: 3\nmodel: {path: builtin:tiny}\ndata: {sources: [rows.jsonl]}\n")
    workspace = Workspace(tmp_path, "p")
    output = begin(workspace, "evaluate", {}, ())
    assert isinstance(output, Output)
    rows = [
        {"id": f"a:{n}", "prompt": "p", "reference": "r", "base": "b", "tuned": "t", "metadata": {}} for n in range(8)
    ]
    files.write_jsonl(output.path / "samples.jsonl", rows)
    output.seal()
    code, out, err = run(capsys, str(project), "--dry-run")
    place = tmp_path / "runs" / "p" / "rating" / "0001.sqlite"
    assert (code, out.splitlines()[0]) == (0, f"would begin {place}")
    assert "rate: answers of runs/p/evaluate/0001" in err
    with served(tmp_path, "project.yaml"):
        pass
    store = Store.open(place)
    assert store.settings["seed"] == 3, "the project's"
    store.cast(store.join("lin"), 0, said("left", corrected={"left": "better"}))
    store.close()
    _, out, err = run(capsys, str(project), "--export", "rows")
    assert json.loads(out)["metadata"]["rating"]["split"] == "test"
    assert "these rows come from a test split" in err, "training on them ends their use as a test"
