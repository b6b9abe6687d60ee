"""The HTTP layer: OpenAI's paths over any engine. It checks, words errors and frames streams; it generates nothing."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from tunewright.core.events import say
from tunewright.models.template import TemplateRefusal
from tunewright.serve import stream, wire
from tunewright.serve.answers import Answer, ContextExceeded, Engine, EngineFault, Interrupted, NotReady, QueueFull
from tunewright.serve.body import ClientGone, read_body, unless_gone
from tunewright.serve.config import ServeConfig
from tunewright.serve.front import Front
from tunewright.serve.parse import parse
from tunewright.serve.wire import ApiError, ChatRequest


def create_app(engine: Engine, config: ServeConfig, *, model_name: str, log: Callable[[str], None] = say) -> FastAPI:
    """The ASGI application that serves `engine` as `model_name`.

    `app.state.draining = True` makes it refuse new requests while it answers those it has. `log` gets one line a
    request, without content.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.state.draining = False
    key = config.api_key.get_secret_value() if config.api_key else None
    app.add_middleware(Front, api_key=key, log=log)
    _add_error_handlers(app)
    _add_health(app, engine)
    _add_models(app, wire.Model(id=model_name, created=wire.now()))

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        _refuse_while(app.state.draining)
        wanted = parse(await read_body(request, config.max_body_bytes))
        _refuse_while(app.state.draining)  # a body may take its time
        if wanted.model != model_name:
            raise _no_such_model(wanted.model)
        answer = await _submit(engine, wanted, config.max_new_tokens)
        return await _respond(request, wanted, answer)

    return app


def _add_health(app: FastAPI, engine: Engine) -> None:
    @app.get("/health")
    async def health() -> Response:
        return JSONResponse({"status": "ok"})

    @app.get("/ready")
    async def ready() -> Response:
        state = "draining" if app.state.draining else engine.state
        return JSONResponse({"status": state}, 200 if state == "ready" else 503)


def _add_models(app: FastAPI, model: wire.Model) -> None:
    @app.get("/v1/models")
    async def list_models() -> Response:
        return JSONResponse(wire.ModelList(data=[model]).model_dump())

    @app.get("/v1/models/{name:path}")
    async def get_model(name: str) -> Response:
        if name != model.id:
            raise _no_such_model(name)
        return JSONResponse(model.model_dump())


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


async def _submit(engine: Engine, wanted: ChatRequest, most_tokens: int) -> Answer:
    tokens = wanted.wanted_tokens
    name = "max_tokens" if wanted.max_tokens is not None else "max_completion_tokens"
    if tokens is not None and tokens > most_tokens:
        message = f"{name} is too large: {tokens}. This server generates at most {most_tokens} tokens a request."
        raise ApiError(400, message, param=name, code="invalid_value")
    try:
        return await engine.submit(
            wanted.to_messages(),
            wanted.to_sampling(tokens or most_tokens),
            stream=wanted.stream,
            exact_length=tokens is not None,
        )
    except ContextExceeded as error:
        raise ApiError(400, str(error), param="messages", code="context_length_exceeded") from None
    except TemplateRefusal as error:
        raise ApiError(400, error.problem, param="messages", code="template_refused") from None
    except NotReady as error:
        raise _unavailable(f"{str(error).capitalize()}.") from None
    except QueueFull as error:
        message = f"The server is busy: {error}. Try again in {error.retry_after_s} s."
        headers = {"Retry-After": str(error.retry_after_s)}
        raise ApiError(429, message, code="rate_limit_exceeded", headers=headers) from None


async def _respond(request: Request, wanted: ChatRequest, answer: Answer) -> Response:
    """Waits for the whole answer, or for the first piece of a streamed one: faults until then get their status."""
    try:
        if not wanted.stream:
            text = await unless_gone(request, answer.whole())
            return JSONResponse(_completion(wanted.model, text, answer).model_dump())
        first = await unless_gone(request, answer.next())
        usage = wanted.stream_options is not None and wanted.stream_options.include_usage
        events = stream.events(answer, first, model=wanted.model, include_usage=usage)
        return stream.EventStream(events, answer.cancel)
    except Interrupted as fault:
        raise _unavailable(str(fault)) from None
    except EngineFault as fault:
        raise ApiError(500, str(fault)) from None
    except BaseException:
        answer.cancel()
        raise


def _completion(model: str, text: str, answer: Answer) -> wire.ChatCompletion:
    choice = wire.AnswerChoice(message=wire.AnswerMessage(content=text), finish_reason=stream.finish_reason(answer))
    return wire.ChatCompletion(
        id=wire.new_id(), created=wire.now(), model=model, choices=[choice], usage=stream.usage(answer)
    )


def _refuse_while(draining: bool) -> None:
    if draining:
        raise _unavailable("The server is shutting down.")


def _no_such_model(name: str) -> ApiError:
    return ApiError(404, f"The model `{name[:200]}` does not exist.", param="model", code="model_not_found")


def _unavailable(message: str) -> ApiError:
    return ApiError(503, message, code="service_unavailable", headers={"Retry-After": "1"})
