"""`tunewright serve` as its users run it: a process with cache, log of questions, broker and workers, and a signal."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import artifact_kit as made
import httpx
import psutil
import pytest
import serving_kit as kit

PROJECT = """\
name: bank
model: {path: "builtin:tiny", dtype: float32}
data: {sources: [rows.jsonl]}
serve: {port: 0, log: json, log_questions: true, jobs: {broker: embedded, lease_s: 1}}
"""
BODY = {"model": "bank", "messages": kit.HELLO, "max_tokens": 3, "temperature": 0}


@pytest.fixture
def project(tmp_path) -> Path:
    (tmp_path / "project.yaml").write_text(PROJECT, encoding="utf-8")
    made.train(made.workspace(tmp_path))
    return tmp_path / "project.yaml"


@contextlib.contextmanager
def served(project: Path) -> Iterator[tuple[str, subprocess.Popen]]:
    """(URL, process); SIGTERM at the end, which must end it well and with nothing left."""
    command = [sys.executable, "-m", "tunewright", "serve", str(project)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield _announced(process), process
            children = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGTERM)
            assert process.wait(kit.DEADLINE_S) == 0
            assert not [child for child in children if child.is_running() and child.status() != "zombie"]
        finally:
            process.kill()


def _announced(process: subprocess.Popen) -> str:
    for line in process.stderr:
        text = json.loads(line).get("text", "") if line.startswith("{") else ""  # libraries write what they like
        if "ready at" in text:
            return text.rsplit(maxsplit=1)[-1].removesuffix("/v1")
    raise AssertionError("the server ended before it was ready")


def post(url: str, path: str = "/v1/chat/completions") -> httpx.Response:
    return httpx.post(f"{url}{path}", json=BODY, timeout=kit.DEADLINE_S)


def test_answers_and_jobs_are_kept_and_a_new_model_is_asked_anew(project):
    with served(project) as (url, process):
        assert len(psutil.Process(process.pid).children()) == 2, "a broker and a worker"
        (model,) = httpx.get(f"{url}/v1/models").json()["data"]
        assert (model["artifact"], model["variant"], model["base"]) == ("runs/bank/train/0001", "tuned", "builtin:tiny")
        assert [post(url).headers["x-cache"] for _ in range(2)] == ["miss", "hit"]
        job = post(url, "/v1/jobs").json()["id"]
        kit.until(lambda: httpx.get(f"{url}/v1/jobs/{job}").json()["status"] == "done", "the job is done")
        content = httpx.get(f"{url}/v1/jobs/{job}/result").json()["choices"]
        assert content == post(url).json()["choices"]
    folder = project.parent / "runs/bank/served"
    assert {"answers", "broker", "questions.jsonl"} <= {path.name for path in folder.iterdir()}
    made.train(made.workspace(project.parent), number=2)
    with served(project) as (url, _):
        assert post(url).headers["x-cache"] == "miss", "the newer model is asked anew"
        assert httpx.get(f"{url}/v1/jobs/{job}/result").json()["choices"] == content, "the job outlived the server"
