"""The OpenAPI document against the running server: schemathesis asks every path what the document allows and forbids.

One of its checks is left out: that every body the schema allows is accepted. What depends on several fields (a tool's
turn answers an earlier call, one name of the length) stands in no JSON schema.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import jobs_kit
import pytest
import serving_kit as kit

CURL = shutil.which("curl")
TOOL = Path(sys.executable).with_name("schemathesis")


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    settings = {"max_new_tokens": 2, "queue": 100}
    folder = tmp_path_factory.mktemp("served")
    with jobs_kit.running(folder, kit.tiny(), keys={"ann": "k1"}, server=settings) as jobs:
        yield jobs.url


def test_the_server_keeps_to_its_document(url, tmp_path):
    command = [
        str(TOOL), "run", f"{url}/openapi.json", "--header", "Authorization: Bearer k1",
        "--seed", "7", "--generation-deterministic",
        "--phases", "coverage,fuzzing,stateful", "--max-examples", "25", "--no-color",
        "--exclude-checks", "positive_data_acceptance",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[:9000] + done.stderr[-2000:]
    assert "Tested: 9" in done.stdout and "Stateful" in done.stdout
    assert httpx.get(f"{url}/ready").status_code == 200


def test_the_document_needs_the_key_and_says_so(url):
    assert httpx.get(f"{url}/openapi.json").status_code == 401
    document = httpx.get(f"{url}/openapi.json", headers={"Authorization": "Bearer k1"}).json()
    assert document["security"] == [{"key": []}] and document["paths"]["/health"]["get"]["security"] == []
    chat = document["components"]["schemas"]["ChatRequest"]
    assert chat["properties"]["model"] == {"const": kit.MODEL} and chat["additionalProperties"] is False
    message = document["components"]["schemas"]["ChatMessage"]["properties"]["content"]
    assert {option["type"] for option in message["anyOf"]} == {"string", "array"}


def test_without_jobs_and_keys_the_document_has_neither():
    with kit.serving(kit.tiny()) as (url, _):
        document = httpx.get(f"{url}/openapi.json").json()
    assert "/v1/jobs" not in document["paths"] and "security" not in document


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
def test_curl_reads_an_answer_and_a_stream(url):
    def curl(*words: str) -> str:
        command = [CURL, "-sS", "-H", "Authorization: Bearer k1", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    body = '{"model": "desk", "messages": [{"role": "user", "content": "你好"}], "max_tokens": 2%s}'
    assert '"object":"chat.completion"' in curl(f"{url}/v1/chat/completions", "-d", body % "")
    lines = curl("-N", f"{url}/v1/chat/completions", "-d", body % ', "stream": true').strip().split("\n\n")
    assert lines[-1] == "data: [DONE]" and all(line.startswith("data: {") for line in lines[:-1])
    assert curl("-o", "/dev/null", "-w", "%{http_code}", "-X", "PATCH", f"{url}/v1/models") == "405"
