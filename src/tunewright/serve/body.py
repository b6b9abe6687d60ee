"""Reading request bodies up to a limit, and noticing that a client has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request

from tunewright.serve.wire import ApiError

READ_TIMEOUT_S = 60.0
LINGER_S = 2.0
ResultT = TypeVar("ResultT")


class ClientGone(Exception):
    """The client closed its connection before the answer."""


async def read_body(request: Request, limit: int) -> bytes:
    """The body of at most `limit` bytes, counted as they come: a missing or false Content-Length changes nothing.

    Raises ApiError 413 or 408, or ClientGone.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        if "expect" not in request.headers:
            await _linger(request)
        raise _too_large(limit)
    body = bytearray()
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            more = True
            while more:
                chunk, more = await _receive(request)
                body += chunk
                if len(body) > limit:
                    break
    except TimeoutError:
        raise ApiError(408, "The request's body did not arrive in time.", code="request_timeout") from None
    if len(body) > limit:
        await _linger(request)
        raise _too_large(limit)
    return bytes(body)


async def _receive(request: Request) -> tuple[bytes, bool]:
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message.get("body", b""), message.get("more_body", False)


async def _linger(request: Request) -> None:
    """Discards what still comes, for a moment: a client that is cut off while it sends never reads the 413."""
    try:
        async with asyncio.timeout(LINGER_S):
            while (await _receive(request))[1]:
                continue
    except TimeoutError:
        return


def _too_large(limit: int) -> ApiError:
    return ApiError(
        413,
        f"The request's body is larger than {limit} bytes.",
        code="request_too_large",
        headers={"Connection": "close"},
    )


async def unless_gone(request: Request, work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """The result of `work`; raises ClientGone, with `work` cancelled, when the client leaves first."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone
    finally:
        task.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue
