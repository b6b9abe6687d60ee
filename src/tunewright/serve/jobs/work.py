"""What a worker does with one job: it asks the server over HTTP, waits where it is busy, and writes the one result."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import redis

from tunewright.serve.config import JobsConfig
from tunewright.serve.jobs import webhook
from tunewright.serve.jobs.records import ENDED, Job, JobStore

JOB_HEADER = "X-Job"
LONGEST_PAUSE_S = 30.0
WRITE_PATIENCE_S = 60.0
"""For so long a result is tried to be written while the broker is away."""
_BUSY = (429, 503)
_PASSING = (408, 500, 502, 504)


@dataclass(frozen=True)
class Place:
    """The server: where it is now, and the key of each tenant."""

    url: Callable[[], str]
    keys: Mapping[str, str]


class Hold:
    """A worker's hold of a job: keeps the lease alive on a thread, and ends the call in progress when it is lost."""

    def __init__(self, store: JobStore, job_id: str, owner: str, every_s: float) -> None:
        self._store, self._job_id, self._owner, self._every_s = store, job_id, owner, every_s
        self.over = threading.Event()
        """Set when the job is no longer this worker's, or the worker stops: nothing more is to be done for it."""
        self._connection: http.client.HTTPConnection | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease-{job_id}", daemon=True)

    def __enter__(self) -> Hold:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    @contextlib.contextmanager
    def calling(self, connection: http.client.HTTPConnection) -> Iterator[None]:
        """While inside, losing the hold closes `connection`: the server sees it and stops generating."""
        self._connection = connection
        try:
            yield
        finally:
            self._connection = None
            connection.close()

    def let_go(self) -> None:
        """Ends the work on this job. Any thread."""
        self.over.set()
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def _beat(self) -> None:
        while not self._done.wait(self._every_s) and not self.over.is_set():
            try:
                if not self._store.beat(self._job_id, self._owner):
                    self.let_go()
            except redis.RedisError:
                continue  # the broker is away; the result may still be in time


class Clerk:
    """Does the jobs of one worker process; several threads may call it at once."""

    def __init__(self, store: JobStore, place: Place, config: JobsConfig, owner: str) -> None:
        self._store, self._place, self._config, self._owner = store, place, config, owner
        self._holds: set[Hold] = set()
        self.stopping = False

    def stop(self) -> None:
        """Gives every job back unfinished."""
        self.stopping = True
        for hold in list(self._holds):
            hold.let_go()

    def answer(self, job_id: str, again: Callable[[str], object]) -> None:
        """Does a job if nobody else does. `again(id)` queues one that is given back."""
        owner = f"{self._owner}-{secrets.token_hex(4)}"  # two messages of one job may meet in one process
        if self.stopping or self._store.claim(job_id, owner) != "yours":
            return
        job = self._store.get(job_id)
        if job is None:
            return
        with Hold(self._store, job_id, owner, self._config.lease_s / 3) as hold:
            self._holds.add(hold)
            try:
                outcome = self._outcome(job, hold)
            finally:
                self._holds.discard(hold)
            if outcome is not None:
                self._write(job_id, outcome)
        if outcome is None and self.stopping and self._store.release(job_id, owner):
            again(job_id)

    def notify(self, job_id: str) -> None:
        """Tells a job's webhook; later again when it does not answer."""
        job = self._store.get(job_id)
        if job is None or job.status not in ENDED or webhook.refusal(job.webhook, self._config.webhooks):
            self._store.hook_tried(job_id, "failed")
        elif webhook.tell(job):
            self._store.hook_tried(job_id, "delivered")
        elif job.webhook_tries + 1 >= webhook.TRIES:
            self._store.hook_tried(job_id, "failed")
        else:
            self._store.hook_tried(job_id, "pending", again_s=webhook.pause_s(job.webhook_tries))

    def _outcome(self, job: Job, hold: Hold) -> dict[str, Any] | None:
        """{"result"} or {"error"}; None when the hold is over. A busy server is waited for; a failure is tried again
        `retries` times with growing pauses. Pauses are spent here and not by Celery's countdown, whose messages wait
        in a worker's memory."""
        failures = turns = 0
        while not (hold.over.is_set() or self.stopping):
            turns += 1
            status, after_s, body = self._call(job, hold)
            if status == 200:
                return {"result": body}
            if hold.over.is_set():
                return None
            if status not in (0, *_BUSY, *_PASSING):
                return {"error": body["error"]}
            failures += status in _PASSING
            if failures > self._config.retries:
                return {"error": body["error"]}
            pause = min(LONGEST_PAUSE_S, max(after_s, 0.25 * 2 ** min(turns, 8)))
            hold.over.wait(pause * random.uniform(0.5, 1))  # noqa: S311 (spreads workers, no secret)
        return None

    def _call(self, job: Job, hold: Hold) -> tuple[int, float, Any]:
        """(status, seconds of Retry-After, body); status 0: the server is not there, 502: it broke off."""
        place = urlsplit(self._place.url())
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=self._config.timeout_s + 30)
        headers = {"Content-Type": "application/json", JOB_HEADER: job.id, "X-Request-Id": job.id}
        if key := self._place.keys.get(job.tenant):
            headers["Authorization"] = f"Bearer {key}"
        with hold.calling(connection):
            try:
                connection.connect()
            except OSError:
                return 0, 0.0, None
            try:
                connection.request("POST", "/v1/chat/completions", json.dumps(job.request), headers)
                response = connection.getresponse()
                after = response.headers.get("Retry-After", "")
                return response.status, float(after) if after.isdigit() else 0.0, json.loads(response.read())
            except (OSError, http.client.HTTPException, ValueError) as error:
                message = f"The server broke off: {type(error).__name__}."
                return 502, 0.0, {"error": {"message": message, "type": "server_error", "param": None, "code": None}}

    def _write(self, job_id: str, outcome: dict[str, Any]) -> None:
        """Writes the result, waiting for a broker that is away; raises redis.RedisError when it stays away."""
        deadline = time.monotonic() + WRITE_PATIENCE_S
        status: Any = "done" if "result" in outcome else "failed"
        while True:
            try:
                self._store.finish(job_id, status, result=outcome.get("result"), error=outcome.get("error"))
                return
            except redis.RedisError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
