"""The records of jobs on the broker: who asked what, where it is, and its one result."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass
from typing import Any, Literal

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from tunewright.serve.config import JobsConfig
from tunewright.serve.jobs import scripts

Status = Literal["queued", "running", "done", "failed", "cancelled"]
ENDED = ("done", "failed", "cancelled")
TIMEOUT_S = 5.0
MOST_AT_ONCE = 1000
HOOK_AGAIN_MS = 60_000
"""A webhook whose worker was lost is tried again after this."""


@dataclass(frozen=True)
class Job:
    """One record. Times: milliseconds since 1970, 0 for not yet. `writes` counts results written: never more than 1."""

    id: str
    tenant: str
    status: Status
    request: dict[str, Any]
    created: int
    started: int
    finished: int
    runs: int
    writes: int
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    webhook: str
    webhook_state: str
    webhook_tries: int

    @classmethod
    def read(cls, fields: dict[str, str]) -> Job:
        """From a record's fields."""

        def number(name: str) -> int:
            return int(fields.get(name, "0"))

        def parsed(name: str) -> Any:
            return json.loads(fields[name]) if name in fields else None

        return cls(
            id=fields["id"],
            tenant=fields["tenant"],
            status=fields["status"],  # type: ignore[arg-type]
            request=parsed("request"),
            created=number("created"),
            started=number("started"),
            finished=number("finished"),
            runs=number("runs"),
            writes=number("writes"),
            result=parsed("result"),
            error=parsed("error"),
            webhook=fields.get("webhook", ""),
            webhook_state=fields.get("webhook_state", ""),
            webhook_tries=number("webhook_tries"),
        )


class Full(Exception):
    """There are as many unfinished jobs as may be."""


class KeyReused(Exception):
    """The idempotency key belongs to a job with another request."""


class JobStore:
    """All jobs of one project. Every method may raise redis.RedisError; all are safe to call again."""

    def __init__(self, url: str, project: str, config: JobsConfig) -> None:
        self._config, self._prefix = config, f"tunewright:{project}:"
        self._client: Any = redis.Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 3),
        )
        names = ("CREATE", "CLAIM", "BEAT", "RELEASE", "FINISH", "REQUEUE", "DUE_HOOKS", "HOOK_TRIED")
        self._scripts = {name: self._client.register_script(getattr(scripts, name)) for name in names}

    def create(self, request: dict[str, Any], *, tenant: str, webhook: str = "", key: str = "") -> tuple[str, bool]:
        """(id, whether it is new). key: the client's idempotency key, which names one request of one tenant.

        Raises Full or KeyReused.
        """
        job_id, text = f"job_{secrets.token_hex(16)}", json.dumps(request, ensure_ascii=False, sort_keys=True)
        digest = hashlib.sha256(f"{webhook}\n{text}".encode()).hexdigest()
        named = hashlib.sha256(key.encode()).hexdigest()
        fields = ["tenant", tenant, "request", text, "webhook", webhook]
        outcome, value = self._run(
            "CREATE",
            [self._job(job_id), self._key("active"), self._key(f"key:{tenant}:{named}")],
            [job_id, self._config.capacity, f"{job_id} {digest}" if key else "", self._ttl_ms, *fields],
        )
        if outcome == "full":
            raise Full
        known, _, said = value.partition(" ")
        if outcome == "known" and said != digest:
            raise KeyReused
        return known, known == job_id

    def get(self, job_id: str) -> Job | None:
        """The record; None when there is none, or no more."""
        fields = self._client.hgetall(self._job(job_id))
        return Job.read(fields) if "status" in fields else None

    def claim(self, job_id: str, owner: str) -> str:
        """`yours`, or why not: `taken`, `gone`, or the status it has ended with."""
        return str(self._run("CLAIM", [self._job(job_id), self._key("running")], [job_id, owner, self._lease_ms]))

    def beat(self, job_id: str, owner: str) -> bool:
        """Makes the lease longer; False when the job is no longer this owner's."""
        return bool(self._run("BEAT", [self._job(job_id)], [owner, self._lease_ms]))

    def release(self, job_id: str, owner: str) -> bool:
        """Gives a job back unfinished; False when it is no longer this owner's."""
        return bool(self._run("RELEASE", [self._job(job_id), self._key("running")], [job_id, owner]))

    def finish(self, job_id: str, status: Status, *, result: Any = None, error: Any = None) -> bool:
        """Ends a job; the first to end it wins, and only that one gets True."""
        keys = [self._job(job_id), *(self._key(name) for name in ("active", "running", "stats", "hooks"))]
        field, value = ("result", result) if error is None else ("error", error)
        text = json.dumps(value, ensure_ascii=False)
        return bool(self._run("FINISH", keys, [job_id, status, field, text, self._ttl_ms]))

    def requeue_lost(self, *, idle_s: float) -> list[str]:
        """Ids of jobs to be queued again: their worker was silent for a lease, or (idle_s > 0) they were queued so
        long ago while the queue has run empty that their message must be lost."""
        lost = []
        for job_id in self._client.zrange(self._key("active"), 0, MOST_AT_ONCE - 1):
            if self._run("REQUEUE", [self._job(job_id), self._key("running")], [job_id, round(1000 * idle_s)]):
                lost.append(job_id)
        return lost

    def due_hooks(self) -> list[str]:
        """Ids of finished jobs whose webhook is to be told now."""
        return list(self._run("DUE_HOOKS", [self._key("hooks")], [HOOK_AGAIN_MS, MOST_AT_ONCE]))

    def hook_tried(self, job_id: str, state: Literal["delivered", "failed", "pending"], *, again_s: float = 0) -> None:
        """Notes a try; `pending` tries again after `again_s`."""
        self._run("HOOK_TRIED", [self._job(job_id), self._key("hooks")], [job_id, state, round(1000 * again_s)])

    def counts(self) -> dict[str, int]:
        """How many are queued and running now, and how many have ended in each way."""
        pipe = self._client.pipeline(transaction=False)
        pipe.zcard(self._key("active")).scard(self._key("running")).hgetall(self._key("stats"))
        active, running, stats = pipe.execute()
        ended = {status: int(stats.get(status, 0)) for status in ENDED}
        return {"queued": active - running, "running": running, **ended}

    def waiting_messages(self, queue: str) -> int:
        """Messages in the Celery queue that no worker has taken."""
        return int(self._client.llen(queue))

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    @property
    def _lease_ms(self) -> int:
        return round(1000 * self._config.lease_s)

    @property
    def _ttl_ms(self) -> int:
        return round(1000 * self._config.result_ttl_s)

    def _key(self, name: str) -> str:
        return self._prefix + name

    def _job(self, job_id: str) -> str:
        return self._key(f"job:{job_id}")

    def _run(self, name: str, keys: list[str], arguments: list[Any]) -> Any:
        return self._scripts[name](keys=keys, args=arguments)
