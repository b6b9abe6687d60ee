"""The paths of /v1/jobs."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from tunewright.serve.chat import ChatRoute
from tunewright.serve.jobs.door import JobsDoor, stored, view
from tunewright.serve.question import Question
from tunewright.serve.wire import ApiError

_CANCELLED = {"message": "It was cancelled.", "code": "cancelled"}


def add_jobs(app: FastAPI, chat: ChatRoute) -> None:
    """Adds the paths; without a broker they say how to get one."""

    @app.post("/v1/jobs")
    async def make(request: Request) -> Response:
        door = _door(chat)
        wanted, webhook = await chat.read_job(request)
        engine = chat.switch.find(wanted.model, "").desk.engine
        await Question.of(wanted, chat.config.max_new_tokens).size(engine)
        return await door.make(request, wanted, webhook)

    @app.get("/v1/jobs/{job_id}")
    async def status(job_id: str, request: Request) -> Response:
        return JSONResponse(view(await _door(chat).find(job_id, request.state.tenant)))

    @app.get("/v1/jobs/{job_id}/result")
    async def result(job_id: str, request: Request) -> Response:
        job = await _door(chat).find(job_id, request.state.tenant)
        if job.status == "done":
            return JSONResponse(job.result)
        if job.status in ("queued", "running"):
            message, headers = f"The job is {job.status}; it has no result yet.", {"Retry-After": "1"}
            raise ApiError(409, message, param="id", code="job_not_finished", headers=headers)
        why = f": {job.error['message']}" if job.error and job.status == "failed" else ""
        raise ApiError(409, f"The job was {job.status}{why}", param="id", code=f"job_{job.status}")

    @app.post("/v1/jobs/{job_id}/cancel")
    async def cancel(job_id: str, request: Request) -> Response:
        door = _door(chat)
        await door.find(job_id, request.state.tenant)
        await stored(door.store.finish, job_id, "cancelled", error=_CANCELLED)
        job = await door.find(job_id, request.state.tenant)
        if job.status != "cancelled":
            raise ApiError(409, f"The job is {job.status} already.", param="id", code=f"job_{job.status}")
        return JSONResponse(view(job))


def _door(chat: ChatRoute) -> JobsDoor:
    if chat.jobs is None:
        message = "This server has no jobs. Set serve.jobs.broker to `embedded`, or to a Redis or Valkey address."
        raise ApiError(404, message, code="jobs_off")
    return chat.jobs
