"""The HTTP layer: OpenAI's paths over any engine. It checks, words errors and frames streams; it generates nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from tunewright.core.events import say
from tunewright.serve import metrics as page
from tunewright.serve import wire
from tunewright.serve.admin import add_admin
from tunewright.serve.answers import Engine
from tunewright.serve.body import ClientGone
from tunewright.serve.cache.key import Identity
from tunewright.serve.cache.layers import AnswerCache
from tunewright.serve.chat import ChatRoute
from tunewright.serve.config import ServeConfig
from tunewright.serve.desk import Desk
from tunewright.serve.fleet import Fleet
from tunewright.serve.front import Front
from tunewright.serve.jobs.door import JobsDoor
from tunewright.serve.jobs.routes import add_jobs
from tunewright.serve.jobs.service import JobService
from tunewright.serve.log import Log
from tunewright.serve.metrics import Metrics
from tunewright.serve.openapi import document
from tunewright.serve.questions import QuestionLog
from tunewright.serve.roster import Roster, Sources
from tunewright.serve.switch import Served, Switch
from tunewright.serve.wire import ApiError

_ELSEWHERE = {
    "/v1/completions": "Text completions are not offered: a chat model answers turns. Use POST /v1/chat/completions.",
    "/v1/embeddings": "Embeddings are not offered: this model generates text. Use a model made for embeddings.",
    "/v1/responses": "The responses API is not offered. Use POST /v1/chat/completions.",
}


@dataclass(frozen=True)
class Parts:
    """What stands around the engine. model: what /v1/models tells; its id is the name that requests must give."""

    model: wire.Model
    identity: Identity = field(default_factory=lambda: Identity(""))
    cache: AnswerCache | None = None
    jobs: JobService | None = None
    questions: QuestionLog | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    """What the model reached in evaluation, for the log."""
    sources: Sources | None = None
    """Where further models come from; None: this one only."""

    def close(self) -> None:
        """Ends what the parts hold: workers and broker, files and connections."""
        if self.jobs is not None:
            self.jobs.stop()
        if self.cache is not None:
            self.cache.close()


def create_app(engine: Engine, config: ServeConfig, parts: Parts, *, log: Callable[[str], None] = say) -> FastAPI:
    """The ASGI application that serves `engine`.

    `app.state.chat.draining = True` makes it refuse new requests while it answers those it has. `log` gets one line a
    request, without content.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    metrics = Metrics(engine)
    switch = Switch(Served(parts.model, Desk(engine, parts.identity, metrics, parts.cache)), config.canary)
    door = JobsDoor(parts.jobs.store, parts.jobs.queue, config.jobs) if parts.jobs else None
    chat = app.state.chat = ChatRoute(switch, config, door, parts.questions)
    roster = app.state.roster = _roster(engine, parts, switch)
    app.add_middleware(Front, keys=config.tenants, log=Log(log, config.log), metrics=metrics)
    _add_error_handlers(app)
    _add_health(app, engine, chat)
    _add_models(app, switch)
    _add_metrics(app, metrics, door)
    _add_refused(app)
    add_jobs(app, chat)
    add_admin(app, roster, config)

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        return await chat.answer(request)

    @app.get("/openapi.json")
    async def openapi() -> Response:
        return JSONResponse(document(parts.model.id, config))

    return app


def _add_health(app: FastAPI, engine: Engine, chat: ChatRoute) -> None:
    @app.get("/health")
    async def health() -> Response:
        return JSONResponse({"status": "ok"})

    @app.get("/ready")
    async def ready() -> Response:
        state = "draining" if chat.draining else engine.state
        return JSONResponse({"status": state}, 200 if state == "ready" else 503)


def _roster(engine: Engine, parts: Parts, switch: Switch) -> Roster | None:
    """Models that come and go: where there is a place for their engines, and a source."""
    if parts.sources is None or not isinstance(engine, Fleet):
        return None
    switch.main = replace(switch.main, scores=parts.scores)
    return Roster(parts.sources, engine, switch)


def _add_models(app: FastAPI, switch: Switch) -> None:
    @app.get("/v1/models")
    async def list_models() -> Response:
        return JSONResponse(wire.ModelList(data=switch.models()).model_dump(exclude_none=True))

    @app.get("/v1/models/{name:path}")
    async def get_model(name: str) -> Response:
        switch.check(name)
        found = next(model for model in switch.models() if model.id == name)
        return JSONResponse(found.model_dump(exclude_none=True))


def _add_metrics(app: FastAPI, metrics: Metrics, door: JobsDoor | None) -> None:
    @app.get("/metrics")
    async def show() -> Response:
        counts = await door.counts() if door else None
        return Response(metrics.text(counts), media_type=page.CONTENT_TYPE)


def _add_refused(app: FastAPI) -> None:
    @app.api_route("/v1/completions", methods=["GET", "POST"])
    @app.api_route("/v1/embeddings", methods=["GET", "POST"])
    @app.api_route("/v1/responses", methods=["GET", "POST"])
    async def refuse(request: Request) -> Response:
        raise ApiError(404, _ELSEWHERE[request.url.path], code="unsupported_endpoint")


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def refuse(_: Request, error: ApiError) -> Response:
        return JSONResponse(error.to_json(), error.status, error.headers)

    @app.exception_handler(HTTPException)
    async def refuse_path(request: Request, error: HTTPException) -> Response:
        texts = {404: "Unknown request URL", 405: "Not allowed method"}
        text = f"{texts.get(error.status_code, 'Refused')}: {request.method} {request.url.path}."
        wanted = ApiError(error.status_code, text, code="unknown_url" if error.status_code == 404 else None)
        return JSONResponse(wanted.to_json(), error.status_code, error.headers)

    @app.exception_handler(ClientGone)
    async def gone(_: Request, __: ClientGone) -> Response:
        return Response(status_code=499)  # nobody reads it; the log line shows it
