"""One streamed request to another server: HTTP/1.1 over asyncio with h11, which uvicorn brings.

The connection belongs to one request, so closing it is how an answer is cancelled: the other server notices, and its
slot is free within a step. No proxy is used and no redirect is followed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import h11
import orjson

from tunewright.serve.faults import EngineFault

CONNECT_S = 10.0
MOST_LINE = 4_000_000
"""Bytes of one event; more is no answer of a model."""
_CHUNK = 65_536


class UpstreamGone(EngineFault):
    """The other server cannot be reached, or broke off."""


@dataclass(frozen=True)
class Address:
    """Where the other server listens. key: sent as a bearer token where there is one."""

    url: str
    key: str = field(default="", repr=False)
    connect_s: float = CONNECT_S


class Response:
    """An answer whose head is there."""

    def __init__(self, status: int, headers: dict[str, str], connection: _Connection) -> None:
        """headers: names in lower case."""
        self.status, self.headers, self._connection = status, headers, connection

    async def events(self) -> AsyncIterator[Any]:
        """The JSON of each server-sent event, until `[DONE]` or the end; raises UpstreamGone."""
        rest = b""
        async for data in self._connection.body():
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > MOST_LINE:
                raise UpstreamGone("The upstream server sent a line without end.")
            for line in lines:
                event = line.strip()
                if event.startswith((b"data:", b"error:")):
                    event = event.partition(b":")[2].strip()
                    if event == b"[DONE]":
                        return
                    yield _json(event)

    async def json(self) -> Any:
        """The whole body; None where it is no JSON. Raises UpstreamGone."""
        whole = b""
        async for data in self._connection.body():
            whole += data
            if len(whole) > MOST_LINE:
                raise UpstreamGone("The upstream server sent a body without end.")
        with contextlib.suppress(UpstreamGone):
            return _json(whole)
        return None


@contextlib.asynccontextmanager
async def request(address: Address, method: str, path: str, body: Any = None) -> AsyncIterator[Response]:
    """Sends one request; the connection is closed at the end of the block, however it is left.

    Raises UpstreamGone. There is no time limit after connecting: whoever reads the answer has one.
    """
    place = urlsplit(address.url)
    connection = await _Connection.open(place.hostname or "", place.port, address, is_tls=place.scheme == "https")
    try:
        content = b"" if body is None else orjson.dumps(body)
        headers = [("Host", place.netloc), ("Content-Length", str(len(content))), ("Connection", "close")]
        headers += [("Content-Type", "application/json"), ("Accept", "text/event-stream, application/json")]
        headers += [("Authorization", f"Bearer {address.key}")] if address.key else []
        await connection.send(h11.Request(method=method, target=place.path + path, headers=headers), content)
        yield await connection.head()
    finally:
        connection.close()


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._state = h11.Connection(h11.CLIENT)

    @classmethod
    async def open(cls, host: str, port: int | None, address: Address, *, is_tls: bool) -> _Connection:
        tls = ssl.create_default_context() if is_tls else None
        try:
            async with asyncio.timeout(address.connect_s):
                return cls(*await asyncio.open_connection(host, port or (443 if is_tls else 80), ssl=tls))
        except (OSError, TimeoutError) as error:
            raise UpstreamGone(f"The upstream server cannot be reached ({type(error).__name__}).") from None

    async def send(self, head: h11.Request, content: bytes) -> None:
        try:
            for event in (head, h11.Data(data=content), h11.EndOfMessage()):
                self._writer.write(self._state.send(event) or b"")
            await self._writer.drain()
        except OSError as error:
            raise _broken(error) from None

    async def head(self) -> Response:
        while not isinstance(event := await self._next(), h11.Response):
            if not isinstance(event, h11.InformationalResponse):
                raise UpstreamGone("The upstream server closed the connection without an answer.")
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in event.headers}
        return Response(event.status_code, headers, self)

    async def body(self) -> AsyncIterator[bytes]:
        while not isinstance(event := await self._next(), h11.EndOfMessage | h11.ConnectionClosed):
            if isinstance(event, h11.Data):
                yield bytes(event.data)

    async def _next(self) -> Any:
        try:
            while (event := self._state.next_event()) is h11.NEED_DATA:
                self._state.receive_data(await self._reader.read(_CHUNK))
        except (OSError, h11.RemoteProtocolError) as error:
            raise _broken(error) from None
        return event

    def close(self) -> None:
        """At once: what is still to come is not wanted."""
        self._writer.transport.abort()


def _json(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except ValueError:
        raise UpstreamGone("The upstream server sent an event that is no JSON.") from None


def _broken(error: Exception) -> UpstreamGone:
    return UpstreamGone(f"The upstream server broke off its answer ({type(error).__name__}).")
