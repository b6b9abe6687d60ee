"""`serve top`, `serve warm` and `serve worker` from the command line, and the log of questions behind them."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import jobs_kit
import pytest
import serving_kit as kit

from tunewright import cli
from tunewright.serve import frequent, warm
from tunewright.serve.cache.key import Identity
from tunewright.serve.cache.layers import open_cache
from tunewright.serve.config import CacheConfig, ServeConfig
from tunewright.serve.questions import QuestionLog
from tunewright.serve.wire import ChatRequest

PROJECT = """\
name: desk
model: {path: "builtin:tiny", dtype: float32}
data: {sources: [rows.jsonl]}
"""


@pytest.fixture
def project(tmp_path) -> Path:
    (tmp_path / "project.yaml").write_text(PROJECT, encoding="utf-8")
    return tmp_path / "project.yaml"


@contextlib.contextmanager
def logging(project: Path, loaded=None, **settings):
    """A server of the project with a cache and a log of questions."""
    folder = project.parent / "runs" / "desk" / "served"
    cache = open_cache(CacheConfig(store="memory"), folder) if settings.pop("cached", True) else None
    questions = QuestionLog(folder / "questions.jsonl")
    parts = kit.named(cache=cache, questions=questions, identity=Identity("one"))
    with kit.serving(loaded or kit.tiny(), parts, **settings) as (url, _):
        yield url, folder / "questions.jsonl"


def asked(url: str, text: str, **change) -> httpx.Response:
    body = {"model": kit.MODEL, "messages": [{"role": "user", "content": text}], "max_tokens": 3, "temperature": 0}
    return httpx.post(f"{url}/v1/chat/completions", json=body | change, timeout=kit.DEADLINE_S)


def run(*words: str, capsys) -> tuple[int, str, str]:
    exit_code = cli.main(list(words))
    captured = capsys.readouterr()
    return exit_code, captured.out, captured.err


def test_top_lists_the_most_asked_with_personal_data_masked(project, capsys):
    with logging(project) as (url, log):
        for text in (
            "Where is my card?",
            "where is  MY card?",
            "Where is my card?",
            "我的卡丢了",
            "我的卡丢了",
            "Call 13812345678",
        ):
            assert asked(url, text).status_code == 200
        turns = [*kit.HELLO, {"role": "assistant", "content": "Yes"}, *kit.HELLO]
        assert asked(url, "", messages=turns).status_code == 200
        assert asked(url, "x" * 300, model="other").status_code == 404
    assert log.stat().st_mode & 0o077 == 0 and "13812345678" not in log.read_text(encoding="utf-8")
    assert len(log.read_text(encoding="utf-8").splitlines()) == 6, "no second turns, no refused request"
    exit_code, out, _ = run("serve", "top", str(project), "--count", "2", capsys=capsys)
    assert exit_code == 0 and out.splitlines() == ["     3  Where is my card?", "     2  我的卡丢了"]
    _, out, _ = run("serve", "top", str(project), "--json", "--count", "9", capsys=capsys)
    assert [row["text"] for row in json.loads(out)][2] == "Call <PHONE>"


def test_top_feeds_warm_and_the_next_client_gets_a_kept_answer(project, tmp_path, capsys):
    with logging(project) as (url, _):
        for text in ("One?", "One?", "Two?"):
            asked(url, text)
        asked(url, "Drawn?", temperature=1.0)
    file = tmp_path / "questions.jsonl"
    assert run("serve", "top", str(project), "--write", str(file), capsys=capsys)[0] == 0
    file.write_text(file.read_text("utf-8") + '{"question": "Three?"}\n"Four?"\n\n', encoding="utf-8")
    loaded = kit.tiny()
    with logging(project, loaded, max_new_tokens=5) as (url, _):
        port = f"serve.port={urlsplit(url).port}"
        exit_code, out, _ = run("serve", "warm", str(file), str(project), port, capsys=capsys)
        assert exit_code == 0
        assert out == (
            "4 answers generated and kept, 0 were there, 1 not kept: they are drawn at a temperature without a seed\n"
        )
        passes = loaded.model.passes
        assert [asked(url, text).headers["x-cache"] for text in ("One?", "Two?")] == ["hit", "hit"]
        assert asked(url, "Three?", max_tokens=None).headers["x-cache"] == "hit"
        assert loaded.model.passes == passes
        assert run("serve", "warm", str(file), str(project), port, capsys=capsys)[1].startswith("0 answers generated")


def test_warm_fills_every_tenants_cache(project, tmp_path, capsys):
    file = tmp_path / "questions.jsonl"
    file.write_text('{"question": "One?"}\n', encoding="utf-8")
    project.write_text(PROJECT + "serve: {api_keys: {ann: k1, bob: k2}}\n", encoding="utf-8")
    with logging(project, api_keys={"ann": "k1", "bob": "k2"}) as (url, _):
        port = f"serve.port={urlsplit(url).port}"
        assert run("serve", "warm", str(file), str(project), port, capsys=capsys)[1].startswith("2 answers generated")


def test_what_warm_cannot_do_is_said(project, tmp_path, capsys):
    file = tmp_path / "questions.jsonl"
    file.write_text('{"question": "One?"}\n{"answer": "x"}\nnot json\n{"messages": []}\n', encoding="utf-8")
    exit_code, _, err = run("serve", "warm", str(file), str(project), capsys=capsys)
    assert exit_code == 3 and "lines 2, 3, 4 hold no question" in err
    assert "needs a file of questions" in run("serve", "warm", str(project), capsys=capsys)[2]
    file.write_text('{"question": "One?"}\n', encoding="utf-8")
    exit_code, _, err = run("serve", "warm", str(file), str(project), "serve.port=1", capsys=capsys)
    assert exit_code == 1 and "start `tunewright serve` first" in err
    exit_code, _, err = run("serve", "warm", str(file), str(project), "serve.port=0", capsys=capsys)
    assert exit_code == 2 and "serve.port is 0" in err
    with logging(project, cached=False) as (url, _):
        port = f"serve.port={urlsplit(url).port}"
        exit_code, _, err = run("serve", "warm", str(file), str(project), port, capsys=capsys)
        assert exit_code == 2 and "keeps no answers" in err
    file.write_text(json.dumps({"messages": [{"role": "user", "content": "x" * 600}]}), encoding="utf-8")
    with logging(project) as (url, _):
        port = f"serve.port={urlsplit(url).port}"
        exit_code, _, err = run("serve", "warm", str(file), str(project), port, capsys=capsys)
        assert exit_code == 1 and "1 questions were refused" in err and "maximum context length" in err


def test_top_without_a_log_says_how_to_get_one(project, capsys):
    exit_code, _, err = run("serve", "top", str(project), capsys=capsys)
    assert exit_code == 3 and "serve.log_questions: true" in err


def test_the_log_has_a_limit_and_both_halves_count(tmp_path):
    log = QuestionLog(tmp_path / "questions.jsonl", max_bytes=300)
    for _ in range(4):
        log.write(ChatRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": "q" * 200}]}))
    sizes = [path.stat().st_size for path in tmp_path.glob("questions*.jsonl")]
    assert len(sizes) == 2 and max(sizes) < 700
    assert frequent.top(tmp_path / "questions.jsonl", 5)[0].count == 4
    with (tmp_path / "questions.jsonl").open("a") as handle:
        handle.write('{"time": 1, "requ')
    assert frequent.top(tmp_path / "questions.jsonl", 5)[0].count == 4, "a cut line is left out"


def test_top_and_warm_load_no_model_library():
    code = (
        "import sys, tunewright.verbs.serve, tunewright.serve.warm, tunewright.serve.frequent;"
        "heavy = {'torch', 'transformers', 'fastapi'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_warm_goes_to_the_address_that_the_server_listens_on():
    assert warm.server_url(ServeConfig(port=80)) == "http://127.0.0.1:80"
    assert warm.server_url(ServeConfig(host="0.0.0.0", port=80, api_key="k")) == "http://127.0.0.1:80"
    assert warm.server_url(ServeConfig(host="192.0.2.7", port=80, api_key="k")) == "http://192.0.2.7:80"


def test_a_log_that_cannot_be_written_costs_no_answer(tmp_path):
    (tmp_path / "served").write_text("no folder")
    told: list[str] = []
    questions = QuestionLog(tmp_path / "served" / "questions.jsonl", tell=told.append)
    with kit.serving(kit.tiny(), kit.named(questions=questions)) as (url, _):
        assert asked(url, "Where is my card?").status_code == 200
    assert len(told) == 1 and "log of questions cannot be written" in told[0] and "card" not in told[0]


class _Other(http.server.BaseHTTPRequestHandler):
    """Some other program: answers 404 with JSON of its own."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(404)
        self.end_headers()
        self.wfile.write(b'{"detail": "Not Found"}')

    def log_message(self, *_):
        return


def test_warm_says_so_when_another_program_answers():
    with http.server.HTTPServer(("127.0.0.1", 0), _Other) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        done = warm.warm(
            f"http://127.0.0.1:{other.server_port}", "m", [{"messages": kit.HELLO}], keys=[], concurrency=1
        )
        other.shutdown()
    (why,) = done.failed
    assert why.endswith(": HTTP 404")


def test_a_worker_of_its_own_does_the_jobs(project):
    project.write_text(PROJECT + "serve: {jobs: {broker: embedded, workers: 0}}\n", encoding="utf-8")
    folder = project.parent / "runs" / "desk" / "served"
    command = [sys.executable, "-m", "tunewright", "serve", "worker", str(project), "serve.port=0"]
    early = subprocess.run(command, capture_output=True, text=True)
    assert early.returncode != 0 and "no server has started here" in early.stderr
    with jobs_kit.running(folder, kit.tiny(), workers=0) as jobs:
        job_id = jobs.made()
        with subprocess.Popen(command, env={**os.environ, "PYTHONWARNINGS": "ignore"}) as worker:
            try:
                assert jobs.ended(job_id)["status"] == "done"
                worker.send_signal(signal.SIGTERM)
                assert worker.wait(kit.DEADLINE_S) == 0
            finally:
                worker.kill()
