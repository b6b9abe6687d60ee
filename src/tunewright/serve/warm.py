"""Filling the answer cache of a running server with frequent questions. Loads no model library."""

from __future__ import annotations

import http.client
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tunewright.core.errors import ArtifactError, ConfigError, ResourceError
from tunewright.core.listen import local_url
from tunewright.serve.config import ServeConfig

TIMEOUT_S = 900.0
PATIENCE = 200
"""How often a busy server is asked again for one question."""
_NOTES = ("count", "time", "id", "metadata")
"""Keys of a line that say nothing to the model."""


@dataclass(frozen=True)
class Warmed:
    """new: generated and kept; known: were there; skipped: cannot be kept (drawn without a seed); failed: why not."""

    new: int
    known: int
    skipped: int
    failed: tuple[str, ...]


def read_questions(path: Path) -> list[dict[str, Any]]:
    """The chat requests in a JSONL file: each line a question as a JSON string, `{"question": ...}`, or the fields of a
    chat request with `messages`. Raises ArtifactError with the lines that are none."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"the questions cannot be read: {type(error).__name__}", where=str(path)) from None
    found, wrong = [], []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            request = _request(line)
            found.append(request)
            wrong += [] if request else [number]
    if wrong:
        raise ArtifactError(
            f"lines {', '.join(map(str, wrong[:10]))} hold no question",
            where=str(path),
            fix='write {"question": "..."} or {"messages": [...], "max_tokens": ...} on each line',
        )
    return found


def _request(line: str) -> dict[str, Any]:
    """Empty for a line that is none. A bare question is asked greedily; a whole request as it is."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return {}
    if isinstance(row, dict) and isinstance(row.get("messages"), list) and row["messages"]:
        return {key: value for key, value in row.items() if key not in _NOTES}
    question = row.get("question") if isinstance(row, dict) else row
    if not isinstance(question, str) or not question.strip():
        return {}
    return {"messages": [{"role": "user", "content": question}], "temperature": 0}


def server_url(config: ServeConfig) -> str:
    """Where the project's server listens, seen from this machine; raises ConfigError for a port that is not fixed."""
    if not config.port:
        raise ConfigError("serve.port is 0, so the server's port is not known", fix="add serve.port=PORT")
    return local_url(config.host, config.port)


def warm(
    url: str, model: str, requests: Sequence[Mapping[str, Any]], *, keys: Sequence[str], concurrency: int
) -> Warmed:
    """Asks every question once for every key (none: once). Raises ResourceError when no server answers, ConfigError
    when it keeps no answers."""
    todo = [(request, key) for key in keys or [""] for request in requests]
    with ThreadPoolExecutor(concurrency) as pool:
        found = list(pool.map(lambda one: _asked(url, {**one[0], "model": model}, one[1]), todo))
    counts = Counter(how for how, _ in found)
    return Warmed(
        new=counts["miss"] + counts["shared"],
        known=counts["hit"] + counts["semantic"],
        skipped=counts["skip"],
        failed=tuple(why for how, why in found if how == "failed"),
    )


def _asked(url: str, request: dict[str, Any], key: str) -> tuple[str, str]:
    """(what the cache did, or `failed`; why it failed)."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    for _ in range(PATIENCE):
        status, answered, body = _post(url, json.dumps(request), headers)
        if status not in (429, 503):
            break
        time.sleep(min(10.0, float(answered.get("Retry-After", "1"))))
    if status != 200:
        asked = json.dumps(request["messages"][-1], ensure_ascii=False)[:60]
        is_ours = isinstance(body, dict) and isinstance(body.get("error"), dict)
        return "failed", f"{asked}: {body['error']['message'] if is_ours else f'HTTP {status}'}"
    if "X-Cache" not in answered:
        raise ConfigError("this server keeps no answers", where=url, fix="set serve.cache.store: disk and restart it")
    return str(answered["X-Cache"]).partition(";")[0], ""


def _post(url: str, body: str, headers: Mapping[str, str]) -> tuple[int, http.client.HTTPMessage, Any]:
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=TIMEOUT_S)
    try:
        connection.request("POST", "/v1/chat/completions", body.encode(), dict(headers))
        response = connection.getresponse()
        return response.status, response.headers, json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ResourceError(
            f"the server did not answer: {type(error).__name__}", where=url, fix="start `tunewright serve` first"
        ) from None
    finally:
        connection.close()
