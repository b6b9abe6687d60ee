"""What happens to every request before the routes: request id, API key, and no fault that leaves without envelope."""

from __future__ import annotations

import hmac
import re
import time
import traceback
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunewright.serve.wire import ApiError

OPEN_PATHS = ("/health", "/ready")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.\-]{1,64}")


class Front:
    """ASGI middleware. `log` gets one line a request: id, method, path, status, milliseconds; never content."""

    def __init__(self, app: ASGIApp, *, api_key: str | None, log: Callable[[str], None]) -> None:
        self._app, self._log = app, log
        self._key = None if api_key is None else f"Bearer {api_key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(reversed(scope["headers"]))
        request_id = _request_id(headers.get(b"x-request-id", b""))
        scope.setdefault("state", {})["request_id"] = request_id
        started, status = time.monotonic(), 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            if self._refuses(scope["path"], headers.get(b"authorization")):
                await _unauthorized(headers)(scope, receive, send_with_id)
            else:
                await self._app(scope, receive, send_with_id)
        except Exception as error:
            self._log(f"serve: {request_id} failed: {_trace(error)}")
            if status:
                raise _Broken from None
            fault = ApiError(500, "The server had an error while processing your request.")
            await JSONResponse(fault.to_json(), 500)(scope, receive, send_with_id)
        if scope["path"] not in OPEN_PATHS:
            took = round(1000 * (time.monotonic() - started))
            self._log(f"serve: {request_id} {scope['method']} {ascii(scope['path'])[1:-1][:100]} {status} {took} ms")

    def _refuses(self, path: str, given: bytes | None) -> bool:
        return self._key is not None and path not in OPEN_PATHS and not hmac.compare_digest(given or b"", self._key)


class _Broken(Exception):
    """An answer broke off after its headers: the connection must be closed. The cause is in the log already."""


def _unauthorized(headers: dict[bytes, bytes]) -> JSONResponse:
    message = "Incorrect API key provided."
    if b"authorization" not in headers:
        message = "You didn't provide an API key. Send it in an Authorization header: Bearer YOUR_KEY."
    error = ApiError(401, message, code="invalid_api_key")
    return JSONResponse(error.to_json(), 401, {"WWW-Authenticate": "Bearer"})


def _request_id(given: bytes) -> str:
    """The client's own id when it is harmless to log, else a fresh one."""
    return given.decode() if _REQUEST_ID.fullmatch(given) else f"req_{uuid.uuid4().hex}"


def _trace(error: BaseException) -> str:
    """Class and lines of a fault without its text, which may hold a message's content."""
    frames: list[Any] = list(traceback.extract_tb(error.__traceback__)[-3:])
    return f"{type(error).__name__} at " + " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames))
