"""Another server as a child of ours: on a free loopback port, with a fresh key in its environment, on a leash."""

from __future__ import annotations

import json
import secrets
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tunewright.core.errors import ResourceError
from tunewright.core.leash import Leashed
from tunewright.core.listen import free_port
from tunewright.serve.engines.client import Address

ASK_S = 10.0
_TICK_S = 0.1


@dataclass(frozen=True)
class Program:
    """What is started. words: its command line, given the port; key: the variable that its key is read from; reason:
    what its last lines say of why it ended."""

    name: str
    words: Callable[[int], list[str]]
    key: str
    env: Mapping[str, str] = field(default_factory=dict)
    start_timeout_s: float = 600.0
    reason: Callable[[str], str] = lambda log: next((line for line in reversed(log.splitlines()) if line.strip()), "")


class Child:
    """The running program. Its methods are called on one thread; `address` is read by others."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._leashed: Leashed | None = None
        self.address = Address("http://127.0.0.1:0")

    @property
    def process_id(self) -> int | None:
        """Of its holder; None while none runs."""
        return self._leashed.process_id if self._leashed else None

    def start(self, stopping: threading.Event) -> None:
        """Returns when `/health` says 200, or early when `stopping` is set. Raises ResourceError with the program's own
        reason when it ends instead, or needs too long."""
        port, key = free_port(), secrets.token_urlsafe(24)
        self.address = Address(f"http://127.0.0.1:{port}", key)
        environment = {**self._program.env, self._program.key: key}
        self._leashed = Leashed(self._program.words(port), env=environment)
        end = time.monotonic() + self._program.start_timeout_s
        while not self._is_healthy():
            if stopping.wait(_TICK_S):
                return
            if (why := self.ended()) is not None:
                raise ResourceError(f"{self._program.name} did not start: {why}", where="serve.engine")
            if time.monotonic() > end:
                limit = f"{self._program.start_timeout_s:g} s"
                fix = "raise serve.engine.start_timeout_s, or take a smaller model"
                raise ResourceError(f"{self._program.name} was not ready in {limit}", where="serve.engine", fix=fix)

    def ended(self) -> str | None:
        """Its reason, or its exit code; None while it runs."""
        if self._leashed is None or (code := self._leashed.exit_code) is None:
            return None
        reason = self._program.reason(self._leashed.said())[:300]
        return f"{reason} (exit code {code})" if reason else f"exit code {code}"

    def stop(self) -> None:
        """Ends it."""
        if self._leashed is not None:
            self._leashed.stop()

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON answer to one call; raises ResourceError. Not for the event loop: it waits."""
        headers = {"Authorization": f"Bearer {self.address.key}", "Content-Type": "application/json"}
        content = None if body is None else json.dumps(body).encode()
        call = urllib.request.Request(self.address.url + path, content, headers, method=method)  # noqa: S310 (loopback)
        try:
            with _OPENER.open(call, timeout=ASK_S) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            said = error.read(300).decode("utf-8", "replace")
            raise ResourceError(f"{self._program.name} refused {path}: {error.code} {said}") from None
        except OSError as error:
            raise ResourceError(f"{self._program.name} does not answer: {error}") from None
        try:
            return json.loads(text)
        except ValueError:
            return None

    def _is_healthy(self) -> bool:
        try:
            self.ask("GET", "/health")
        except ResourceError:
            return False
        return True


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Loopback is never asked through a proxy."""
