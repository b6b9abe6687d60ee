"""No job is lost and none has two results, whoever is killed."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import jobs_kit
import pytest
import serving_kit as kit

from tunewright.core.chat import Message
from tunewright.models.generate import Sampling, generate

JOBS = 200
TOKENS = 4


def test_200_jobs_three_worker_kills_and_a_broker_restart(tmp_path):
    loaded = kit.tiny()
    questions = [f"Question {number}?" for number in range(JOBS)]
    prompts = [loaded.tokenizer.prompt_ids([Message(role="user", content=text)]) for text in questions]
    wanted = [row.text for row in generate(loaded.model, loaded.tokenizer, prompts, Sampling(max_new_tokens=TOKENS))]
    assert len(set(wanted)) > JOBS / 4, "answers can be told apart"
    loaded.model.gate.clear()
    with jobs_kit.running(tmp_path, loaded, workers=2, concurrency=4) as jobs:
        with ThreadPoolExecutor(8) as pool:
            ids = list(pool.map(lambda number: _made(jobs, questions[number], number), range(JOBS)))
            assert len(set(ids)) == JOBS
            for done, victim in ((0, "worker"), (40, "worker"), (80, "broker"), (120, "worker")):
                _kill(jobs, loaded, victim, done)
            loaded.model.gate.set()
            again = list(pool.map(lambda number: _made(jobs, questions[number], number), range(JOBS)))
        assert again == ids, "the idempotency keys outlived the broker's restart"
        kit.until(lambda: jobs.service.store.counts()["done"] == JOBS, "every job is done")
        found = [jobs.service.store.get(job_id) for job_id in ids]
        assert jobs.service.store.counts() == {"queued": 0, "running": 0, "done": JOBS, "failed": 0, "cancelled": 0}
    assert [job.result["choices"][0]["message"]["content"] for job in found] == wanted
    assert {job.writes for job in found} == {1}, "each has one result, written once"
    assert sum(job.runs > 1 for job in found) >= 3, "the kills met jobs in work, which were done again"


def _made(jobs: jobs_kit.Jobs, question: str, number: int) -> str:
    """Posts a job as a client does: again while the broker is away, under one idempotency key."""
    change = {"messages": [{"role": "user", "content": question}], "max_tokens": TOKENS}
    while True:
        response = jobs.post(change, **{"Idempotency-Key": f"key {number}"})
        if response.status_code in (200, 202):
            return response.json()["id"]
        assert response.status_code == 503, response.text
        time.sleep(0.1)


def _kill(jobs: jobs_kit.Jobs, loaded, victim: str, done: int) -> None:
    """Kills once `done` jobs are done, while others are in work: the model waits until the kill is over."""
    loaded.model.gate.set()
    kit.until(lambda: jobs.service.store.counts()["done"] >= done, f"{done} jobs are done")
    loaded.model.gate.clear()
    kit.until(lambda: jobs.service.store.counts()["running"] >= 4, "jobs are in work")
    workers = [worker for worker in jobs.service.workers if worker.poll() is None]
    killed = jobs.service.broker.pid if victim == "broker" else workers[0].pid
    os.kill(killed, signal.SIGKILL)
    if victim == "broker":
        kit.until(lambda: jobs.service.broker.pid not in (0, killed), "another broker runs")
    else:
        kit.until(lambda: all(worker.pid != killed for worker in jobs.service.workers), "another worker runs")


def test_a_stopping_server_hands_its_jobs_over_to_the_next(tmp_path):
    loaded = kit.tiny()
    with jobs_kit.running(tmp_path, loaded, server={"shutdown_timeout_s": 0}) as jobs:
        loaded.model.gate.clear()
        running = jobs.made({"max_tokens": 50})
        kit.until(lambda: jobs.service.store.counts()["running"] == 1, "it runs")
        queued = [jobs.made() for _ in range(3)]
    with jobs_kit.running(tmp_path, loaded) as jobs:
        for job_id in [running, *queued]:
            assert jobs.ended(job_id)["status"] == "done"
        assert httpx.get(f"{jobs.url}/v1/jobs/{running}/result").json()["usage"]["completion_tokens"] == 50


@pytest.mark.parametrize("victim", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_ends_when_its_server_is_gone(tmp_path, victim):
    with jobs_kit.running(tmp_path, kit.tiny()) as jobs:
        (worker,) = jobs.service.workers
        jobs.ended(jobs.made())
        worker.send_signal(victim)
        kit.until(lambda: jobs.service.workers[0] is not worker, "another is started")
        (second,) = jobs.service.workers
        assert jobs.ended(jobs.made())["status"] == "done"
        jobs.service._stop.set()
        second.stdin.close()  # what the worker sees when the server is killed
        assert second.wait(kit.DEADLINE_S) is not None
