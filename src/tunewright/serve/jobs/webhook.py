"""Telling an allow-listed host that a job has ended. The message names the job and its state, never its content."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Collection
from urllib.parse import urlsplit

from tunewright.core.listen import LOOPBACK
from tunewright.serve.jobs.records import Job

TIMEOUT_S = 10.0
TRIES = 6
FIRST_PAUSE_S = 2.0


def refusal(url: str, hosts: Collection[str]) -> str:
    """Why a webhook is not accepted; empty when it is. Only https, but http to this machine itself."""
    try:
        place = urlsplit(url)
        port = place.port
    except ValueError:
        return "it is not a URL"
    name = (place.hostname or "").lower()
    if place.scheme not in ("http", "https") or not name or place.username or place.password or place.fragment:
        return "it must be https://HOST/PATH without user or password"
    if not all(32 < ord(letter) < 127 for letter in url):
        return "it holds blanks, control characters or letters beyond ASCII; write these as %XX"
    shown = f"[{name}]" if ":" in name else name
    if shown not in hosts and f"{shown}:{port}" not in hosts:
        return "its host is not in this server's list serve.jobs.webhooks"
    if place.scheme == "http" and name not in LOOPBACK:
        return "it must be https"
    return ""


def tell(job: Job) -> bool:
    """One try; whether the host answered with 2xx. A redirect is not followed: it could lead to another host."""
    place = urlsplit(job.webhook)
    body = json.dumps({"id": job.id, "object": "job", "status": job.status, "finished_at": job.finished // 1000})
    connection: http.client.HTTPConnection
    if place.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(place.hostname or "", place.port, timeout=TIMEOUT_S, context=context)
    else:
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=TIMEOUT_S)
    path = (place.path or "/") + (f"?{place.query}" if place.query else "")
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        return 200 <= connection.getresponse().status < 300
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def pause_s(tries: int) -> float:
    """Seconds until the next try after `tries` that failed: 2, 4, 8, ..."""
    return float(FIRST_PAUSE_S * 2 ** min(tries, 8))
