"""Running the app: own socket, readiness, graceful drain. Blocks until it was told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn

from tunewright.core import events, listen
from tunewright.core.errors import ResourceError, TunewrightError
from tunewright.serve.app import Parts, create_app
from tunewright.serve.config import ServeConfig
from tunewright.serve.fleet import RunningEngine
from tunewright.serve.log import Log

TICK_S = 0.02
LOOK_S = 0.1
"""Between two looks of a server that answers: each costs its event loop a turn."""
INTERRUPT_S = 5.0
"""After the drain: time for interrupted rows to leave and for their last bytes to be sent."""


class Server:
    """One server over one engine, whose parts it closes in the end. Binds on creation, so that a busy port is known
    before a model is loaded."""

    def __init__(
        self,
        engine: RunningEngine,
        config: ServeConfig,
        parts: Parts,
        *,
        log: Callable[[str], None] = events.say,
    ) -> None:
        self.engine, self._config, self._parts = engine, config, parts
        self._say = Log(log, config.log).say
        try:
            self._socket = listen.bind(config.host, config.port, section="serve")
        except ResourceError:
            parts.close()
            raise
        self.app = create_app(engine, config, parts, log=log)
        self._uvicorn = _Uvicorn(
            uvicorn.Config(
                self.app,
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                h11_max_incomplete_event_size=config.max_header_bytes,
                timeout_graceful_shutdown=int(INTERRUPT_S),
            ),
            self.drain,
        )
        self._draining = threading.Event()
        self._hurry = threading.Event()

    @property
    def url(self) -> str:
        """Where the server listens, without a path."""
        return listen.url(*self._socket.getsockname()[:2])

    def run(self) -> None:
        """Loads, serves and returns when drained. On the main thread SIGTERM and SIGINT drain.

        Raises the engine's own error when the model cannot be loaded.
        """
        url = self.url
        try:
            if self._parts.jobs is not None:
                self._parts.jobs.start(listen.local_url(*self._socket.getsockname()[:2]))
            self.engine.start()
            asyncio.run(self._serve(url))
        finally:
            self._socket.close()
            self.engine.stop()
            self._parts.close()
        if self.engine.failure is not None:
            raise _as_error(self.engine.failure)

    def drain(self) -> None:
        """Refuses new requests, lets the others finish in time, then ends. Again: does not wait. Any thread."""
        if self._draining.is_set():
            self._hurry.set()
        self._draining.set()
        self.app.state.chat.draining = True

    async def _serve(self, url: str) -> None:
        beside = [asyncio.create_task(self._watch(url))]
        if self.app.state.roster is not None:
            beside.append(asyncio.create_task(self.app.state.roster.run()))
        try:
            await self._uvicorn.serve(sockets=[self._socket])
        finally:
            for task in beside:
                task.cancel()

    async def _watch(self, url: str) -> None:
        """Says when the model is ready; ends the server after a failed load or a drain."""
        announced = False
        while not self._draining.is_set() and self.engine.state != "failed":
            if self.engine.state == "ready" and self._uvicorn.started and not announced:
                announced = True
                self._say(f"serve: ready at {url}/v1")
            await asyncio.sleep(LOOK_S if announced else TICK_S)
        self.app.state.chat.draining = True
        if self.engine.outstanding:
            await self._wait_for_answers()
        self._uvicorn.should_exit = True

    async def _wait_for_answers(self) -> None:
        limit = self._config.shutdown_timeout_s
        self._say(f"serve: stopping; {self.engine.outstanding} answers may finish within {limit:g} s")
        await self._idle(limit)
        if self.engine.outstanding:
            self._say(f"serve: {self.engine.outstanding} answers are cancelled")
            self.engine.interrupt()
            self._hurry.clear()
            await self._idle(INTERRUPT_S)

    async def _idle(self, limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        while self.engine.outstanding and time.monotonic() < deadline and not self._hurry.is_set():
            await asyncio.sleep(TICK_S)


class _Uvicorn(uvicorn.Server):
    """uvicorn closes its socket on a signal; we first drain while /ready and refusals are still answered."""

    def __init__(self, config: uvicorn.Config, drain: Callable[[], None]) -> None:
        super().__init__(config)
        self._drain = drain

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._drain()


def _as_error(failure: BaseException) -> BaseException:
    if isinstance(failure, TunewrightError):
        return failure
    return ResourceError(f"the engine ended: {type(failure).__name__}: {failure}", fix="see the log above")


@contextlib.contextmanager
def in_thread(server: Server, *, timeout_s: float = 600.0) -> Iterator[str]:
    """Runs `server` on a thread, yields its URL once it is ready, and drains it at the end.

    Raises what `Server.run` raised, or ResourceError when it is not ready in time.
    """
    raised: list[BaseException] = []

    def target() -> None:
        try:
            server.run()
        except BaseException as error:
            raised.append(error)

    url = server.url
    thread = threading.Thread(target=target, name="server")
    thread.start()
    try:
        deadline = time.monotonic() + timeout_s
        while server.engine.state != "ready" and thread.is_alive() and time.monotonic() < deadline:
            time.sleep(TICK_S)
        if thread.is_alive() and server.engine.state != "ready":
            raise ResourceError(f"the model was not loaded within {timeout_s:g} s", where="serve")
        if thread.is_alive():
            yield url
    finally:
        server.drain()
        thread.join()
    if raised:
        raise raised[0]
