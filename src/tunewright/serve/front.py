"""What happens to every request before the routes: request id, API key, and no fault that leaves without envelope."""

from __future__ import annotations

import hmac
import re
import time
import traceback
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunewright.serve.log import Log
from tunewright.serve.metrics import Metrics
from tunewright.serve.wire import ApiError

OPEN_PATHS = ("/health", "/ready")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.\-]{1,64}")


class Front:
    """ASGI middleware. Routes find in `request.state`: `request_id`, `tenant` (whose key it was, empty without keys),
    `started` (time.monotonic) and `facts`, a dict of what else is worth a place in the log line, never content."""

    def __init__(self, app: ASGIApp, *, keys: Mapping[str, str], log: Log, metrics: Metrics) -> None:
        """keys: API key of each tenant; empty: none is asked for."""
        self._app, self._log, self._metrics = app, log, metrics
        self._keys = {tenant: f"Bearer {key}".encode() for tenant, key in keys.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(reversed(scope["headers"]))
        state = scope.setdefault("state", {})
        state |= {"request_id": _request_id(headers.get(b"x-request-id", b"")), "started": time.monotonic()}
        state |= {"tenant": self._tenant(headers.get(b"authorization")), "facts": {}}
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", state["request_id"].encode())]
            await send(message)

        try:
            if state["tenant"] is None and scope["path"] not in OPEN_PATHS:
                await _unauthorized(headers)(scope, receive, send_with_id)
            else:
                await self._app(scope, receive, send_with_id)
        except Exception as error:
            self._log.say(f"serve: {state['request_id']} failed: {_trace(error)}")
            if status:
                raise _Broken from None
            fault = ApiError(500, "The server had an error while processing your request.")
            await JSONResponse(fault.to_json(), 500)(scope, receive, send_with_id)
        finally:
            self._note(scope, status)

    def _tenant(self, given: bytes | None) -> str | None:
        """Whose key was given; None for nobody's. Every key is compared, so that time tells nothing."""
        if not self._keys:
            return ""
        same = [tenant for tenant, key in self._keys.items() if hmac.compare_digest(given or b"", key)]
        return same[0] if same else None

    def _note(self, scope: Scope, status: int) -> None:
        route = scope.get("route")
        self._metrics.request(getattr(route, "path", "other"), _method(scope), status)
        if scope["path"] in OPEN_PATHS:
            return
        state = scope["state"]
        facts = {
            "request_id": state["request_id"],
            "method": _method(scope),
            "path": ascii(scope["path"])[1:-1][:100],
            "status": status,
            "ms": round(1000 * (time.monotonic() - state["started"])),
        }
        tenant = {"tenant": state["tenant"]} if state["tenant"] else {}
        self._log.request(facts | tenant | state["facts"])


def _method(scope: Scope) -> str:
    """A client may send any word as its method; only the known ones are counted and logged."""
    method = str(scope["method"])
    return method if method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS") else "OTHER"


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
