"""Jobs over real HTTP, with a real broker and worker processes."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading

import httpx
import jobs_kit
import pytest
import serving_kit as kit
from pydantic import ValidationError

from tunewright.core.errors import ResourceError
from tunewright.serve.config import JobsConfig
from tunewright.serve.jobs.broker import EmbeddedBroker
from tunewright.serve.jobs.records import JobStore
from tunewright.serve.jobs.webhook import pause_s, refusal

LONG = {"messages": [{"role": "user", "content": "x" * 300}]}


@pytest.fixture(scope="module")
def loaded():
    return kit.tiny()


@pytest.fixture(scope="module")
def jobs(loaded, tmp_path_factory):
    with jobs_kit.running(
        tmp_path_factory.mktemp("served"),
        loaded,
        keys={"ann": "k1", "bob": "k2"},
        longer_than_tokens=200,
        capacity=8,
        server={"max_new_tokens": 100},
    ) as running:
        yield running


ANN = {"Authorization": "Bearer k1"}
BOB = {"Authorization": "Bearer k2"}


def code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def test_a_job_gives_what_a_chat_request_gives(jobs):
    made = jobs.post(**ANN)
    job = made.json()
    assert made.status_code == 202 and made.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["object"], job["status"], job["error"], job["webhook"]) == ("job", "queued", None, None)
    ended = jobs.ended(job["id"], **ANN)
    assert ended["status"] == "done" and ended["created_at"] <= ended["started_at"] <= ended["finished_at"]
    result = httpx.get(f"{jobs.url}{ended['result_url']}", headers=ANN).json()
    direct = jobs.post(path="/v1/chat/completions", **ANN).json()
    assert result["object"] == "chat.completion"
    assert (result["choices"], result["usage"]) == (direct["choices"], direct["usage"])


def test_another_tenants_job_is_not_there(jobs):
    job_id = jobs.made(**ANN)
    for response in (
        jobs.get(job_id, **BOB),
        jobs.get(f"{job_id}/result", **BOB),
        httpx.post(f"{jobs.url}/v1/jobs/{job_id}/cancel", headers=BOB),
        jobs.get("job_none", **ANN),
    ):
        assert code(response) == (404, "job_not_found")
    assert jobs.ended(job_id, **ANN)["status"] == "done"


def test_only_a_long_request_that_prefers_it_becomes_a_job(jobs):
    chat, prefer = "/v1/chat/completions", {"Prefer": "return=minimal, respond-async", **ANN}
    assert jobs.post(path=chat, **prefer).status_code == 200, "short: served at once"
    assert jobs.post(LONG, path=chat, **ANN).status_code == 200, "long, but it did not ask"
    accepted = jobs.post(LONG, path=chat, **prefer)
    assert accepted.status_code == 202 and accepted.headers["preference-applied"] == "respond-async"
    assert jobs.ended(accepted.json()["id"], **ANN)["status"] == "done"
    assert code(jobs.post(LONG | {"stream": True}, path=chat, **prefer)) == (400, "invalid_value")


def test_a_wrong_job_is_refused_at_once_with_the_reason(jobs):
    assert code(jobs.post({"stream": True}, **ANN)) == (400, "invalid_value")
    assert code(jobs.post({"model": "other"}, **ANN)) == (404, "model_not_found")
    assert code(jobs.post({"max_tokens": 101}, **ANN)) == (400, "invalid_value")
    assert code(jobs.post({"messages": [{"role": "user", "content": "x" * 600}]}, **ANN)) == (
        400, "context_length_exceeded",
    )  # fmt: skip
    assert code(jobs.post({"webhook": 5}, **ANN)) == (400, "invalid_type")
    assert code(jobs.post({"webhook": "https://evil.example/x"}, **ANN)) == (400, "invalid_value")
    assert code(jobs.post(path="/v1/chat/completions", **ANN, **{"X-Job": "job_none"})) == (400, "invalid_value")
    assert jobs.post().status_code == 401


def test_an_idempotency_key_names_one_job_of_one_tenant(jobs):
    key = {"Idempotency-Key": "order 17"}
    first = jobs.made(**ANN, **key)
    again = jobs.post(**ANN, **key)
    assert again.status_code == 200 and again.json()["id"] == first
    assert code(jobs.post({"max_tokens": 5}, **ANN, **key)) == (409, "idempotency_key_reused")
    assert jobs.made(**BOB, **key) != first
    assert code(jobs.post(**ANN, **{"Idempotency-Key": "x" * 256})) == (400, "invalid_value")
    assert jobs.ended(first, **ANN)["status"] == "done"


def test_cancelling_stops_the_generation_and_the_limit_of_jobs_is_429(jobs, loaded):
    loaded.model.gate.clear()
    try:
        running = jobs.made({"max_tokens": 90}, **ANN)
        kit.until(lambda: jobs.engine.running + len(jobs.engine._running) > 0, "it runs")
        answer = jobs.engine._running[0]
        assert code(jobs.get(f"{running}/result", **ANN)) == (409, "job_not_finished")
        others = [jobs.made(**ANN) for _ in range(7)]
        full = jobs.post(**ANN)
        assert code(full) == (429, "rate_limit_exceeded") and int(full.headers["retry-after"]) > 0
        for job_id in [running, *others]:
            cancelled = httpx.post(f"{jobs.url}/v1/jobs/{job_id}/cancel", headers=ANN)
            assert cancelled.status_code == 200 and cancelled.json()["status"] == "cancelled"
        assert code(jobs.get(f"{running}/result", **ANN)) == (409, "job_cancelled")
        kit.until(lambda: answer.request.cancelled, "the worker has let go")
    finally:
        loaded.model.gate.set()
    kit.until(lambda: jobs.engine.outstanding == 0, "the row left")
    done = jobs.made(**ANN)
    assert jobs.ended(done, **ANN)["status"] == "done"
    late = httpx.post(f"{jobs.url}/v1/jobs/{done}/cancel", headers=ANN)
    assert code(late) == (409, "job_done")
    text = httpx.get(f"{jobs.url}/metrics", headers=ANN).text
    assert 'tunewright_jobs_finished_total{state="cancelled"} 8.0' in text
    assert 'tunewright_jobs{state="running"} 0.0' in text


def test_a_failing_model_is_tried_again_and_then_the_job_fails(tmp_path):
    loaded = kit.tiny()
    with jobs_kit.running(tmp_path, loaded, retries=1) as jobs:
        loaded.model.fault = RuntimeError("once")
        assert jobs.ended(jobs.made())["status"] == "done", "the second try succeeds"
        loaded.model.gate.clear()
        job_id = jobs.made({"max_tokens": 5})
        for _ in range(2):
            kit.until(lambda: jobs.engine._running, "a try runs")
            loaded.model.fault = RuntimeError("always")
            loaded.model.gate.set()
            kit.until(lambda: loaded.model.fault is None, "it failed")
            loaded.model.gate.clear()
        ended = jobs.ended(job_id)
        loaded.model.gate.set()
        assert ended["status"] == "failed" and "failed on this request" in ended["error"]["message"]
        assert code(jobs.get(f"{job_id}/result")) == (409, "job_failed")


def test_long_requests_can_be_refused_and_workers_still_get_them_served(tmp_path):
    with jobs_kit.running(tmp_path, kit.tiny(), long_requests="refuse", longer_than_tokens=200) as jobs:
        refused = jobs.post(LONG, path="/v1/chat/completions")
        assert code(refused) == (400, "request_too_long")
        assert "/v1/jobs" in refused.json()["error"]["message"] and "over 200" in refused.json()["error"]["message"]
        assert jobs.post(path="/v1/chat/completions").status_code == 200
        assert jobs.ended(jobs.made(LONG))["status"] == "done"


class _Hook(http.server.BaseHTTPRequestHandler):
    """Answers 500 to the first call, 200 to the others."""

    got: list[dict] = []

    def do_POST(self):
        self.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(500 if len(self.got) == 1 else 204)
        self.end_headers()

    def log_message(self, *_):
        return


def test_a_webhook_is_told_until_it_answers_and_gets_no_content(tmp_path):
    hook = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hook)
    threading.Thread(target=hook.serve_forever, daemon=True).start()
    host = f"127.0.0.1:{hook.server_port}"
    try:
        with jobs_kit.running(tmp_path, kit.tiny(), webhooks=[host]) as jobs:
            job_id = jobs.made({"webhook": f"http://{host}/done?x=1"})
            kit.until(lambda: jobs.get(job_id).json()["webhook"]["state"] == "delivered", "it was told")
    finally:
        hook.shutdown()
    assert len(_Hook.got) == 2 and _Hook.got[0] == _Hook.got[1]
    assert _Hook.got[0].keys() == {"id", "object", "status", "finished_at"}
    assert (_Hook.got[0]["id"], _Hook.got[0]["status"]) == (job_id, "done")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://hooks.example.com/x", ""),
        ("https://HOOKS.example.com:443/x", ""),
        ("http://127.0.0.1:9000/", ""),
        ("http://hooks.example.com/x", "https"),
        ("https://127.0.0.1:9001/", "list"),
        ("https://hooks.example.com.evil.example/", "list"),
        ("https://hooks.example.com@evil.example/", "without user"),
        ("https://hooks.example.com/a\r\nHost: b", "control"),
        ("https://hooks.example.com/完成", "ASCII"),
        ("ftp://hooks.example.com/", "https://HOST"),
        ("https://hooks.example.com:99999/", "not a URL"),
        ("https:///x", "https://HOST"),
    ],
)
def test_only_listed_hosts_are_told(url, why):
    found = refusal(url, ("hooks.example.com", "127.0.0.1:9000"))
    assert (why in found) if why else found == ""


def test_pauses_grow():
    assert [pause_s(tries) for tries in range(4)] == [2, 4, 8, 16]


def test_jobs_are_off_by_default_and_say_how_to_turn_them_on():
    with kit.serving(kit.tiny()) as (url, _):
        response = httpx.post(f"{url}/v1/jobs", json=jobs_kit.BODY)
        assert code(response) == (404, "jobs_off") and "serve.jobs.broker" in response.json()["error"]["message"]
    assert JobsConfig().broker == "off"
    with pytest.raises(ValidationError, match="off, embedded"):
        JobsConfig(broker="rabbit")
    with pytest.raises(ValidationError, match="is no host"):
        JobsConfig(webhooks=["https://a.example/x"])


def test_a_worker_loads_no_model_library():
    code_text = (
        "import sys, tunewright.serve.jobs.worker;"
        "heavy = {'torch', 'transformers', 'fastapi', 'tokenizers'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code_text], check=True)


def test_one_result_whoever_writes_it_and_a_lost_lease_is_found(tmp_path):
    broker = EmbeddedBroker(tmp_path / "broker")
    try:
        store = JobStore(broker.start(), "p", JobsConfig(lease_s=0.5))
        job_id, is_new = store.create({"a": 1}, tenant="")
        assert is_new and store.claim(job_id, "w1") == "yours" and store.claim(job_id, "w2") == "taken"
        assert store.beat(job_id, "w1") and not store.beat(job_id, "w2")
        assert store.requeue_lost(idle_s=0) == [], "its lease holds"
        kit.until(lambda: store.requeue_lost(idle_s=0) == [job_id], "the lease runs out")
        assert not store.beat(job_id, "w1") and store.claim(job_id, "w2") == "yours"
        assert store.finish(job_id, "done", result={"by": "w1"}), "the first to end it wins"
        assert not store.finish(job_id, "done", result={"by": "w2"})
        assert not store.finish(job_id, "cancelled", error={})
        assert store.claim(job_id, "w3") == "done" and store.claim("job_x", "w3") == "gone"
        job = store.get(job_id)
        assert (job.result, job.writes, job.runs, job.status) == ({"by": "w1"}, 1, 2, "done")
        assert store.counts() == {"queued": 0, "running": 0, "done": 1, "failed": 0, "cancelled": 0}
    finally:
        broker.stop()


def test_a_queued_job_without_a_message_is_found_once_the_queue_is_empty(tmp_path):
    broker = EmbeddedBroker(tmp_path / "broker")
    try:
        store = JobStore(broker.start(), "p", JobsConfig())
        job_id, _ = store.create({"a": 1}, tenant="")
        assert store.requeue_lost(idle_s=0) == []
        kit.until(lambda: store.requeue_lost(idle_s=0.3) == [job_id], "it is old enough")
        assert store.requeue_lost(idle_s=0.3) == [], "its time begins again"
    finally:
        broker.stop()


def test_a_broker_has_one_server_and_an_orphan_is_ended(tmp_path):
    first = EmbeddedBroker(tmp_path)
    store = JobStore(first.start(), "p", JobsConfig())
    job_id, _ = store.create({"a": 1}, tenant="")
    with pytest.raises(ResourceError, match="another server of this project"):
        EmbeddedBroker(tmp_path).start()
    os.close(first._lock)  # as if its server had been killed: the lock is free, the process goes on
    first._lock = -1
    orphan = first._server._process
    second = EmbeddedBroker(tmp_path)
    try:
        store = JobStore(second.start(), "p", JobsConfig())
        assert orphan.wait(10) is not None
        assert store.get(job_id).status == "queued", "nothing is lost"
    finally:
        second.stop()
    with pytest.raises(ResourceError, match="blanks"):
        EmbeddedBroker(tmp_path / "a b").start()
