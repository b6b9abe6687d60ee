"""`tunewright data check` and `data show` as a user calls them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tunewright.models import tiny
from tunewright.models.source import cache_directory

GOOD = {"conversation": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Hello."}]}
TINY = "model.path=builtin:tiny"


@pytest.fixture
def call(tmp_path):
    tiny.folder(cache_directory())

    def run(*words):
        done = subprocess.run(
            [sys.executable, "-m", "tunewright", "data", *words], cwd=tmp_path, capture_output=True, text=True
        )
        assert "Traceback" not in done.stderr
        return done

    return run


def _write(path, *rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))


def test_check_says_what_every_row_is_and_writes_nothing(call, tmp_path):
    trailing = {"conversation": [*GOOD["conversation"], {"role": "user", "content": "and?"}]}
    _write(
        tmp_path / "a.jsonl",
        GOOD,
        trailing,
        GOOD,
        *[
            {
                **GOOD,
                "conversation": [
                    {"role": "user", "content": f"{'xyz' * n} {n}"},
                    {"role": "assistant", "content": f"{n} {'abc' * n}"},
                ],
            }
            for n in range(1, 20)
        ],
    )
    _write(tmp_path / "b.jsonl", '{"conversation": [')
    before = sorted(path.name for path in tmp_path.iterdir())
    done = call("check", "a.jsonl", "b.jsonl", "--json", TINY)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    first, second = json.loads(done.stdout)["files"]
    assert (first["read"], first["kept"], first["repaired"], first["quarantined"]) == (22, 21, 1, 0)
    assert (first["path"], first["format"], first["encoding"]) == ("a.jsonl", "conversation", "utf-8")
    found = [(f["line"], f["code"], f["action"]) for f in first["findings"]]
    assert found == [(2, "DANGLING_USER", "repaired"), (2, "DUPLICATE", "kept"), (3, "DUPLICATE", "kept")]
    assert set(first["findings"][0]) == {"line", "byte_offset", "code", "action", "reason", "excerpt"}
    assert first["findings"][0]["byte_offset"] == len(json.dumps(GOOD)) + 1
    assert [(f["code"], f["action"]) for f in second["findings"]] == [("JSON_SYNTAX", "quarantined")]
    assert done.returncode == 0  # one row of 23 is under five percent


def test_check_fails_with_the_json_printed_when_too_much_is_bad(call, tmp_path):
    _write(tmp_path / "a.jsonl", GOOD, "{", "{")
    done = call("check", "a.jsonl", "--json", TINY)
    assert done.returncode == 5
    assert json.loads(done.stdout)["files"][0]["quarantined"] == 2
    assert "66.7% of the rows would be quarantined" in done.stderr
    assert call("check", "a.jsonl", "data.max_quarantined=0.7", TINY).returncode == 0


def test_a_file_that_cannot_be_read_does_not_stop_the_others(call, tmp_path):
    _write(tmp_path / "a.jsonl", GOOD)
    done = call("check", "absent.jsonl", "a.jsonl", "--json", TINY)
    absent, good = json.loads(done.stdout)["files"]
    assert done.returncode == 3
    assert absent["findings"][0]["action"] == "error" and "no such data source" in absent["findings"][0]["reason"]
    assert good["kept"] == 1 and good["findings"] == []


def test_rows_on_one_line_are_told_apart(call, tmp_path):
    """Elements of an array share a line: a near duplicate beside an exact one keeps its finding."""
    text = "I paid at the petrol station on Monday evening and my card was charged two times, so give me the money"
    rows = [
        {"conversation": [{"role": "user", "content": text + end}, {"role": "assistant", "content": "refund"}]}
        for end in ("", "", " back")
    ]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    done = call("check", "a.json", "--json", TINY)
    (one,) = json.loads(done.stdout)["files"]
    assert [f["code"] for f in one["findings"] if f["code"] != "ARRAY"] == ["DUPLICATE", "NEAR_DUPLICATE"]
    assert "made ready" not in done.stderr


def test_a_section_that_check_does_not_use_is_refused(call, tmp_path):
    _write(tmp_path / "a.jsonl", GOOD)
    done = call("check", "a.jsonl", "train.epochs=2")
    assert done.returncode == 2 and "no section 'train'" in done.stderr


def test_patterns_name_several_files(call, tmp_path):
    for name in ("x1.jsonl", "x2.jsonl"):
        _write(tmp_path / name, GOOD)
    done = call("check", "x*.jsonl", "--json", TINY)
    assert [one["path"] for one in json.loads(done.stdout)["files"]] == ["x1.jsonl", "x2.jsonl"]


def test_a_model_that_nobody_chose_refuses_no_row(call, tmp_path):
    calls = [{"type": "function", "function": {"name": "weather", "arguments": "{}"}}]
    turns = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "content": "18"},
        {"role": "assistant", "content": "18 degrees"},
    ]
    _write(tmp_path / "a.jsonl", {"messages": turns})
    assert json.loads(call("check", "a.jsonl", "--json").stdout)["files"][0]["findings"] == []
    chosen = json.loads(call("check", "a.jsonl", "--json", TINY).stdout)["files"][0]
    assert [finding["code"] for finding in chosen["findings"]] == ["TEMPLATE"]


def test_show_prints_rows_as_they_are_trained(call, tmp_path, bank_like):
    _write(tmp_path / "a.jsonl", *bank_like(30))
    (tmp_path / "project.yaml").write_text("name: p\nmodel: {path: 'builtin:tiny'}\ndata: {sources: [a.jsonl]}\n")
    done = call("project.yaml")
    assert done.returncode == 0, done.stderr
    shown = call("show", "project.yaml", "--count", "2")
    assert shown.returncode == 0, shown.stderr
    assert "[[answer" in shown.stdout and "tokens" in shown.stdout
    one = call("show", "project.yaml", "--row", "a.jsonl:3")
    assert one.returncode == 0 and "question number 2" in one.stdout
    wrong = call("show", "project.yaml", "--row", "a.jsonl:99")
    assert wrong.returncode == 2 and "a.jsonl:" in wrong.stderr


def test_a_row_is_found_and_purged_and_stays_away(call, tmp_path, bank_like):
    _write(tmp_path / "a.jsonl", *bank_like(30))
    (tmp_path / "project.yaml").write_text("name: p\nmodel: {path: 'builtin:tiny'}\ndata: {sources: [a.jsonl]}\n")
    assert call("project.yaml").returncode == 0
    found = call("find", "project.yaml", "question number 7")
    assert found.returncode == 0, found.stderr
    assert "a.jsonl:8" in found.stdout and "runs/p/data/0001" in found.stdout
    look = call("purge", "project.yaml", "a.jsonl:8", "--dry-run")
    assert look.returncode == 0, look.stderr
    assert not (tmp_path / "runs" / "p" / "data" / "0002").exists()
    done = call("purge", "project.yaml", "a.jsonl:8")
    assert done.returncode == 0, done.stderr
    sealed = b"".join(p.read_bytes() for p in (tmp_path / "runs" / "p" / "data" / "0002").iterdir() if p.is_file())
    assert b"question number 7" not in sealed and b"question number 8" in sealed
    again = call("project.yaml", "seed=8")  # a later run does not bring it back
    assert again.returncode == 0, again.stderr
    newest = sorted((tmp_path / "runs" / "p" / "data").iterdir())[-1]
    assert b"question number 7" not in b"".join(p.read_bytes() for p in newest.iterdir() if p.is_file())
    assert "ERASED" in (newest / "report.json").read_text()
