"""The OpenAPI document of the server: made from the types of the wire, so that both say the same."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from tunewright import __version__
from tunewright.serve.chat import LEAST_TIMEOUT_S, TIMEOUT_HEADER
from tunewright.serve.config import ServeConfig
from tunewright.serve.jobs.door import JobView
from tunewright.serve.wire import ChatCompletion, ChatRequest, Chunk, ErrorEnvelope, Model, ModelList

_REF = "#/components/schemas/"
_WHY = {
    400: "The request is wrong, or asks for what is not supported",
    401: "No key, or a wrong one",
    404: "There is nothing of this name",
    405: "Another method is needed",
    408: "The body did not arrive in time",
    409: "The state of the job, or the idempotency key, does not allow it",
    413: "The body is too large",
    429: "The queue is full; Retry-After says when to ask again",
    500: "The model failed on this request",
    503: "The model is loading or failing, or the server stops",
    504: "The time of the request is over",
}


class JobRequest(ChatRequest):
    """A chat request as a job. `webhook`: an address on the server's list, told when the job has ended."""

    stream: Literal[False] = False
    webhook: str | None = None


class Health(BaseModel):
    """alive: always `ok`; ready: the engine's state, or `draining`."""

    status: str = Field(examples=["ok", "ready", "loading", "draining"])


def document(model_name: str, config: ServeConfig) -> dict[str, Any]:
    """OpenAPI 3.1 for a server of the model `model_name`."""
    shown: list[Any] = [ChatRequest, JobRequest]
    answers: list[Any] = [ChatCompletion, Chunk, Model, ModelList, ErrorEnvelope, JobView, Health]
    _, definitions = models_json_schema(
        [*((item, "validation") for item in shown), *((item, "serialization") for item in answers)],
        ref_template=_REF + "{model}",
    )
    schemas = definitions["$defs"]
    for name in ("ChatRequest", "JobRequest"):
        schemas[name]["properties"]["model"] = {"const": model_name}
    whole: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "tunewright", "version": __version__, "description": "OpenAI's chat API over one model."},
        "paths": _paths(config),
        "components": {"schemas": schemas},
    }
    if config.tenants:
        whole["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        whole["security"] = [{"key": []}]
    return whole


def _paths(config: ServeConfig) -> dict[str, Any]:
    keyed = (401,) if config.tenants else ()
    body = (400, *keyed, 404, 408, 413, 429, 500, 503, 504)
    job_id, limit = [_parameter("job_id", "path")], [_timeout(config.request_timeout_s)]
    jobs: dict[str, Any] = {
        "/v1/jobs": {"post": _posted("make_job", "JobRequest", {202: "JobView", 200: "JobView"}, (*body, 409))},
        "/v1/jobs/{job_id}": {"get": _got("job", "JobView", (*keyed, 404, 503), job_id)},
        "/v1/jobs/{job_id}/result": {"get": _got("job_result", "ChatCompletion", (*keyed, 404, 409, 503), job_id)},
        "/v1/jobs/{job_id}/cancel": {"post": _got("cancel_job", "JobView", (*keyed, 404, 409, 503), job_id)},
    }
    for answer in ("200", "202"):
        jobs["/v1/jobs"]["post"]["responses"][answer]["links"] = _links("job", "job_result", "cancel_job")
    chat = _posted("chat", "ChatRequest", {200: "ChatCompletion"}, body)
    # OpenAPI 3.1 has no word for the events of a stream: each is a Chunk, an ErrorEnvelope, or [DONE].
    chat["responses"]["200"]["content"]["text/event-stream"] = {}
    if config.jobs.broker != "off":
        chat["responses"]["202"] = _answer("JobView", "Accepted as a job")
    alive = _got("health", "Health", (), [])
    ready = _got("ready", "Health", (), [])
    ready["responses"]["503"] = _answer("Health", "Not ready")
    for open_path in (alive, ready):
        open_path["security"] = []
    return {
        "/v1/chat/completions": {"post": {**chat, "parameters": limit}},
        "/v1/models": {"get": _got("models", "ModelList", keyed, [])},
        "/v1/models/{name}": {"get": _got("model", "Model", (*keyed, 404), [_parameter("name", "path")])},
        "/health": {"get": alive},
        "/ready": {"get": ready},
        **(jobs if config.jobs.broker != "off" else {}),
    }


def _links(*operations: str) -> dict[str, Any]:
    """Operations that take the id of the answered job."""
    return {name: {"operationId": name, "parameters": {"job_id": "$response.body#/id"}} for name in operations}


def _parameter(name: str, place: str) -> dict[str, Any]:
    return {"name": name, "in": place, "required": True, "schema": {"type": "string", "minLength": 1}}


def _timeout(most: float) -> dict[str, Any]:
    schema = {"type": "number", "minimum": LEAST_TIMEOUT_S, "maximum": most}
    return {"name": TIMEOUT_HEADER, "in": "header", "required": False, "schema": schema}


def _got(name: str, answer: str, faults: tuple[int, ...], parameters: list[dict[str, Any]]) -> dict[str, Any]:
    responses = {"200": _answer(answer, "As asked"), **_faults((*faults, 405))}
    return {"operationId": name, "parameters": parameters, "responses": responses}


def _posted(name: str, body: str, answers: dict[int, str], faults: tuple[int, ...]) -> dict[str, Any]:
    responses = {str(status): _answer(answer, "As asked") for status, answer in answers.items()}
    content = {"application/json": {"schema": {"$ref": _REF + body}}}
    return {
        "operationId": name,
        "requestBody": {"required": True, "content": content},
        "responses": {**responses, **_faults((*faults, 405))},
    }


def _answer(schema: str, text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": {"$ref": _REF + schema}}}}


def _faults(statuses: tuple[int, ...]) -> dict[str, Any]:
    return {str(status): _answer("ErrorEnvelope", _WHY[status]) for status in sorted(statuses)}
