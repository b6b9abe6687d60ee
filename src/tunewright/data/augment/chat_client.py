"""A small client for OpenAI-compatible chat endpoints on the standard library: order kept, retries, clear errors.

It speaks to the address of the project file and to nothing else: no proxies of the environment, no redirects. The key
stands in one header; whatever an endpoint says is cleaned of it before it is shown.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from tunewright.core.errors import ConfigError, ResourceError
from tunewright.data.augment.options import Server

_RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 30.0
_LARGEST_ANSWER = 16 * 2**20
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Request:
    """One question. seed: sent as it is, where the endpoint knows it; temperature: 0 for the most probable answer."""

    system: str
    user: str
    temperature: float
    seed: int


class ChatClient:
    """Asks one endpoint; make it once, it may be used from one thread at a time and starts its own."""

    def __init__(self, server: Server, *, where: str) -> None:
        self._server, self._where = server, where
        self._address = urlsplit(server.base_url)
        self._key = server.api_key.get_secret_value() if server.api_key else ""

    def ask(self, requests: Sequence[Request]) -> list[str]:
        """The answers in order; empty for one that was cut at max_tokens or holds no text.

        Raises ConfigError when the endpoint refuses (401, 403, 404, 400 ...), ResourceError when it cannot be reached,
        keeps failing after the retries, or answers something that is no chat completion.
        """
        if not requests:
            return []
        model = self.model
        pool = ThreadPoolExecutor(min(self._server.concurrency, len(requests)))
        try:
            return list(pool.map(lambda request: self._answer(request, model), requests))
        finally:
            pool.shutdown(cancel_futures=True)

    @cached_property
    def model(self) -> str:
        """The model's name: from the project file, else the first that the endpoint lists."""
        if self._server.model:
            return self._server.model
        listed = self._call("GET", "/models", None)
        try:
            return str(listed["data"][0]["id"])
        except (KeyError, IndexError, TypeError):
            raise ConfigError(
                "the endpoint lists no model", where=self._where, fix="name one with the key model"
            ) from None

    def _answer(self, request: Request, model: str) -> str:
        body = {
            "model": model,
            "messages": [{"role": "system", "content": request.system}, {"role": "user", "content": request.user}],
            "temperature": request.temperature,
            "max_tokens": self._server.max_tokens,
            "seed": request.seed % 2**31,
        }
        reply = self._call("POST", "/chat/completions", body)
        try:
            choice = reply["choices"][0]
            content, finish = choice["message"]["content"], choice.get("finish_reason")
        except (KeyError, IndexError, TypeError, AttributeError):
            raise self._garbage(json.dumps(reply)) from None
        if content is not None and not isinstance(content, str):
            raise self._garbage(json.dumps(reply))
        return "" if finish == "length" else content or ""

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        """The JSON of a 200 answer, after up to `retries` further tries."""
        problem, wait = "", 0.0
        for attempt in range(self._server.retries + 1):
            if attempt:
                time.sleep(min(max(wait, _FIRST_WAIT_S * 2 ** (attempt - 1)), _LONGEST_WAIT_S))
            try:
                status, text, wait = self._exchange(method, path, body)
            except (OSError, http.client.HTTPException) as error:
                problem, wait = f"cannot be asked: {self._clean(str(error) or type(error).__name__)}", 0.0
                continue
            if status == http.client.OK:
                return self._parsed(text)
            problem = f"answers {status}: {self._clean(_message(text))}"
            if status not in _RETRIED:
                fix = "check api_key" if status in (401, 403) else "check base_url and model"
                raise ConfigError(f"the endpoint {self._server.base_url} {problem}", where=self._where, fix=fix)
        tries = self._server.retries + 1
        raise ResourceError(
            f"the endpoint {self._server.base_url} {problem} ({tries} tries)",
            where=self._where,
            fix="start it, or raise timeout_s or retries, or lower concurrency",
        )

    def _exchange(self, method: str, path: str, body: Mapping[str, Any] | None) -> tuple[int, str, float]:
        """(status, body, seconds that Retry-After asks for) of one request on its own connection."""
        host, port = self._address.hostname, self._address.port
        assert host is not None
        kind = http.client.HTTPSConnection if self._address.scheme == "https" else http.client.HTTPConnection
        connection = kind(host, port, timeout=self._server.timeout_s)
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        sent = None if body is None else json.dumps(body).encode()
        try:
            connection.request(method, self._address.path + path, body=sent, headers=headers)
            reply = connection.getresponse()
            text = reply.read(_LARGEST_ANSWER).decode("utf-8", "replace")
            return reply.status, text, _seconds(reply.getheader("Retry-After"))
        finally:
            connection.close()

    def _parsed(self, text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError:
            raise self._garbage(text) from None

    def _garbage(self, text: str) -> ResourceError:
        return ResourceError(
            f"the endpoint {self._server.base_url} answers something that is no chat completion: {self._clean(text)}",
            where=self._where,
            fix="give the address of an OpenAI-compatible server, usually ending in /v1",
        )

    def _clean(self, text: str) -> str:
        """One short line without the key."""
        hidden = text.replace(self._key, "***") if self._key else text
        return " ".join(hidden.split())[:_SHOWN] or "nothing"


def _message(text: str) -> str:
    """The sentence in an OpenAI error body, else the body."""
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return text


def _seconds(header: str | None) -> float:
    """Retry-After in seconds; its other form, a date, is left to the growing wait."""
    try:
        return max(0.0, float(header or 0))
    except ValueError:
        return 0.0
