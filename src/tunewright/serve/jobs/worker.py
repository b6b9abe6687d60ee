"""A worker process: Celery's loop around a Clerk. It loads no model; it asks the server."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import sys
import threading
import warnings
from pathlib import Path

from pydantic import BaseModel

from tunewright.core.errors import ResourceError
from tunewright.serve.config import JobsConfig
from tunewright.serve.jobs.queue import ANSWER, NOTIFY, make_celery
from tunewright.serve.jobs.records import JobStore
from tunewright.serve.jobs.work import Clerk, Place

PLACE = "place.json"
"""Where the running server writes its URL and its broker's address, for workers on the same machine."""


class WorkerSettings(BaseModel):
    """What a worker needs to know. folder: where `place.json` lies; keys: API key of each tenant."""

    project: str
    folder: Path
    broker: str
    fallback_url: str
    keys: dict[str, str]
    jobs: JobsConfig

    def server_url(self) -> str:
        """Where the server is now."""
        place = read_place(self.folder)
        return place.get("url", self.fallback_url)


def read_place(folder: Path) -> dict[str, str]:
    """What the running server wrote of itself; empty when none has."""
    try:
        place = json.loads((folder / PLACE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return {str(key): str(value) for key, value in place.items()}


def broker_of(folder: Path, config: JobsConfig) -> str:
    """The broker's address for `serve worker`; raises ResourceError when the embedded one does not run."""
    if config.broker != "embedded":
        return config.url()
    if address := read_place(folder).get("broker"):
        return address
    raise ResourceError(
        "the embedded broker runs inside `tunewright serve`, and no server has started here",
        where=str(folder),
        fix="start `tunewright serve` first, or set serve.jobs.broker to a Redis or Valkey address",
    )


def work(settings: WorkerSettings) -> int:
    """Takes jobs until SIGTERM; then gives back what it has in work. Returns the exit code."""
    owner = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    store = JobStore(settings.broker, settings.project, settings.jobs)
    clerk = Clerk(store, Place(settings.server_url, settings.keys), settings.jobs, owner)
    app = make_celery(settings.broker, settings.project, settings.jobs)

    @app.task(name=ANSWER)  # type: ignore[untyped-decorator]
    def answer(job_id: str) -> None:
        clerk.answer(job_id, lambda again: app.send_task(ANSWER, args=[again]))

    @app.task(name=NOTIFY)  # type: ignore[untyped-decorator]
    def notify(job_id: str) -> None:
        clerk.notify(job_id)

    from celery.platforms import SecurityWarning
    from celery.signals import worker_shutting_down

    # Celery warns of running as root because of pickled messages; only JSON is accepted here.
    warnings.simplefilter("ignore", SecurityWarning)

    def stop(**_: object) -> None:
        clerk.stop()

    worker_shutting_down.connect(stop, weak=False)
    worker = app.Worker(
        pool="threads",
        concurrency=settings.jobs.concurrency,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        loglevel="WARNING",
        quiet=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


def main() -> int:
    """A worker that `tunewright serve` runs: settings as a line on stdin, whose end means that the server has gone."""
    settings = WorkerSettings.model_validate_json(sys.stdin.readline())

    def watch() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    return work(settings)


if __name__ == "__main__":
    raise SystemExit(main())
