"""Which requests become jobs, and which are refused because they should; all that touches the broker, off the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal, ParamSpec, TypeVar

import redis
from fastapi import Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from tunewright.serve.answers import Engine
from tunewright.serve.config import JobsConfig
from tunewright.serve.jobs.queue import ANSWER, JobQueue
from tunewright.serve.jobs.records import Full, Job, JobStore, KeyReused, Status
from tunewright.serve.jobs.webhook import refusal
from tunewright.serve.jobs.work import JOB_HEADER
from tunewright.serve.question import Question, busy, unavailable
from tunewright.serve.wire import ApiError, ChatRequest

ASYNC = "respond-async"
LONGEST_KEY = 255
FULL_RETRY_S = 10
P = ParamSpec("P")
T = TypeVar("T")


async def stored(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """A call of the store on a thread; raises ApiError 503 when the broker is away."""
    try:
        return await asyncio.to_thread(call, *args, **kwargs)
    except redis.RedisError:
        raise unavailable("The broker of the jobs cannot be reached.") from None


class JobHook(BaseModel):
    """Who is told, and whether it was: waiting (for the end), pending, delivered or failed."""

    url: str
    state: Literal["waiting", "pending", "delivered", "failed"]


class JobView(BaseModel):
    """A job as clients see it. Times: seconds since 1970, null for not yet."""

    id: str
    object: Literal["job"]
    status: Status
    created_at: int
    started_at: int | None
    finished_at: int | None
    error: dict[str, Any] | None
    webhook: JobHook | None
    result_url: str


def view(job: Job) -> dict[str, Any]:
    """A job as clients see it."""
    hook = {"url": job.webhook, "state": job.webhook_state or "waiting"} if job.webhook else None
    shown = {
        "id": job.id,
        "object": "job",
        "status": job.status,
        "created_at": job.created // 1000,
        "started_at": job.started // 1000 or None,
        "finished_at": job.finished // 1000 or None,
        "error": job.error,
        "webhook": hook,
        "result_url": f"/v1/jobs/{job.id}/result",
    }
    return JobView.model_validate(shown).model_dump()


class JobsDoor:
    """Makes jobs out of requests."""

    def __init__(self, store: JobStore, queue: JobQueue, config: JobsConfig) -> None:
        self.store, self._queue, self._config = store, queue, config

    async def limit_of(self, request: Request) -> float | None:
        """Seconds that a worker's own request may take; None for everybody else's. Raises ApiError."""
        job_id = request.headers.get(JOB_HEADER)
        if job_id is None:
            return None
        job = await stored(self.store.get, job_id)
        if job is None or job.tenant != request.state.tenant or job.status != "running":
            raise ApiError(400, f"'{JOB_HEADER}' names no running job.", param=JOB_HEADER, code="invalid_value")
        return self._config.timeout_s

    async def instead(
        self, request: Request, wanted: ChatRequest, question: Question, engine: Engine
    ) -> Response | None:
        """202 with a job for a long request that prefers it; None for one that is to be served. Raises ApiError 400
        for a long one that this server does not serve."""
        prefers = any(word.strip().lower() == ASYNC for word in ",".join(request.headers.getlist("Prefer")).split(","))
        if not prefers and self._config.long_requests == "serve":
            return None
        size = await question.size(engine)
        tokens = size.prompt + (size.new if question.exact_length else 0)
        if tokens <= self._config.longer_than_tokens:
            return None
        if prefers:
            made = await self.make(request, wanted)
            made.headers["Preference-Applied"] = ASYNC
            return made
        message = (
            f"This request is long: {tokens} tokens of messages and completion, over {self._config.longer_than_tokens}."
            f" Send it to POST /v1/jobs, or send it here with the header 'Prefer: {ASYNC}'."
        )
        raise ApiError(400, message, param="messages", code="request_too_long")

    async def make(self, request: Request, wanted: ChatRequest, webhook: str = "") -> Response:
        """202 with a new job, or 200 with the one that the idempotency key names; raises ApiError."""
        if wanted.stream:
            raise ApiError(400, "A job is not streamed; leave 'stream' out.", param="stream", code="invalid_value")
        if webhook and (why := refusal(webhook, self._config.webhooks)):
            raise ApiError(400, f"Invalid value for 'webhook': {why}.", param="webhook", code="invalid_value")
        try:
            job_id, is_new = await stored(
                self.store.create,
                wanted.model_dump(exclude_unset=True),
                tenant=request.state.tenant or "",
                webhook=webhook,
                key=_key(request),
            )
        except Full:
            raise busy("As many jobs as may be are unfinished.", FULL_RETRY_S) from None
        except KeyReused:
            message = "This Idempotency-Key belongs to another request."
            raise ApiError(409, message, param="Idempotency-Key", code="idempotency_key_reused") from None
        if is_new:
            await asyncio.to_thread(self._queue.send, ANSWER, job_id)
        job = await self.find(job_id, request.state.tenant or "")
        return JSONResponse(view(job), 202 if is_new else 200, {"Location": f"/v1/jobs/{job_id}"})

    async def counts(self) -> dict[str, int] | None:
        """Jobs by state; None while the broker is away."""
        try:
            return await asyncio.to_thread(self.store.counts)
        except redis.RedisError:
            return None

    async def find(self, job_id: str, tenant: str) -> Job:
        """The tenant's job; raises ApiError 404 for another's as for none."""
        job = await stored(self.store.get, job_id)
        if job is None or job.tenant != tenant:
            raise ApiError(404, f"There is no job `{job_id[:64]}`, or no more.", param="id", code="job_not_found")
        return job


def _key(request: Request) -> str:
    key = request.headers.get("Idempotency-Key", "")
    if len(key) > LONGEST_KEY or not key.isprintable():
        message = f"Invalid value for 'Idempotency-Key': at most {LONGEST_KEY} printable characters."
        raise ApiError(400, message, param="Idempotency-Key", code="invalid_value")
    return key
