"""A server with jobs around the tiny model: its own embedded broker, real worker processes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import serving_kit as kit

from tunewright.serve.config import JobsConfig
from tunewright.serve.engine import TransformersEngine
from tunewright.serve.jobs.service import JobService
from tunewright.serve.prepared import Loaded

BODY = {"model": kit.MODEL, "messages": kit.HELLO, "max_tokens": 6, "temperature": 0}


@dataclass(frozen=True)
class Jobs:
    """A running server with jobs."""

    url: str
    engine: TransformersEngine
    service: JobService

    def post(self, change: dict[str, Any] | None = None, *, path: str = "/v1/jobs", **headers: str) -> httpx.Response:
        body = BODY | (change or {})
        return httpx.post(f"{self.url}{path}", json=body, headers=headers, timeout=kit.DEADLINE_S)

    def get(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(f"{self.url}/v1/jobs/{path}", headers=headers, timeout=kit.DEADLINE_S)

    def made(self, change: dict[str, Any] | None = None, **headers: str) -> str:
        response = self.post(change, **headers)
        assert response.status_code == 202, response.text
        return response.json()["id"]

    def ended(self, job_id: str, **headers: str) -> dict[str, Any]:
        """The job once it has ended."""
        kit.until(lambda: self.get(job_id, **headers).json()["finished_at"], f"{job_id} ends")
        return self.get(job_id, **headers).json()


@contextlib.contextmanager
def running(
    folder: Path,
    loaded: Loaded,
    *,
    keys: dict[str, str] | None = None,
    server: dict[str, Any] | None = None,
    **jobs: Any,
) -> Iterator[Jobs]:
    """A server over `loaded`; `jobs` are settings of serve.jobs, `server` those of serve."""
    config = JobsConfig(**{"broker": "embedded", "lease_s": 1, **jobs})
    service = JobService(kit.MODEL, config, folder, keys=keys or {}, tell=lambda _: None)
    settings = {"jobs": config, "api_keys": keys or {}, **(server or {})}
    with kit.serving(loaded, kit.named(jobs=service), **settings) as (url, engine):
        yield Jobs(url, engine, service)
