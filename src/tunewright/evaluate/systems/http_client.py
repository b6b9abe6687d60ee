"""One chat completion over HTTP, on the standard library: timeouts, retries with growing waits, errors in one sentence.

It speaks to the address of the project file and to nothing else: no proxies of the environment, no redirects. The key
stands in one header; whatever an endpoint says is cleaned of it before it is shown.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tunewright.core.errors import ConfigError, ResourceError
from tunewright.evaluate.systems.options import Address

RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0
_LARGEST_ANSWER = 16 * 2**20
_SHOWN = 200


@dataclass(frozen=True)
class Completion:
    """What an endpoint answered. prompt_tokens, new_tokens: as it counts them, -1 where it does not say; finish: "stop"
    or "length"; seconds: of the try that worked."""

    text: str
    finish: str
    prompt_tokens: int
    new_tokens: int
    seconds: float


class HttpClient:
    """Asks one endpoint; may be used from several threads."""

    def __init__(self, address: Address, *, where: str) -> None:
        """where: the place in the project file, for errors. Raises ConfigError when the named variable is not set."""
        self.address, self.where = address, where
        self._url = urlsplit(address.base_url)
        self._key = _key(address.api_key_env, where)

    def complete(self, body: Mapping[str, Any]) -> Completion:
        """The first choice of a chat completion. Raises ConfigError when the endpoint refuses (401, 404, 400 ...),
        ResourceError when it cannot be reached, keeps failing, or answers something that is no chat completion."""
        reply, seconds = self.post("/chat/completions", body)
        try:
            choice = reply["choices"][0]
            content, finish = choice["message"].get("content"), choice.get("finish_reason")
        except (KeyError, IndexError, TypeError, AttributeError):
            raise self._garbage(json.dumps(reply)) from None
        if content is not None and not isinstance(content, str):
            raise self._garbage(json.dumps(reply))
        usage = reply.get("usage") or {}
        return Completion(
            content or "",
            "length" if finish == "length" else "stop",
            _count(usage, "prompt_tokens"),
            _count(usage, "completion_tokens"),
            seconds,
        )

    def post(self, path: str, body: Mapping[str, Any]) -> tuple[Any, float]:
        """(the JSON of a 200 answer, seconds of that try), after up to `retries` further tries."""
        problem, wait = "", 0.0
        for attempt in range(self.address.retries + 1):
            if attempt:
                time.sleep(_pause(attempt, wait))
            start = time.monotonic()
            try:
                status, text, wait = self._exchange(path, body)
            except ssl.SSLCertVerificationError as error:
                raise self._refused(f"has a certificate that is not trusted: {error.verify_message}") from None
            except (OSError, http.client.HTTPException) as error:
                problem, wait = f"cannot be asked: {self._clean(str(error) or type(error).__name__)}", 0.0
                continue
            if status == http.client.OK:
                return self._parsed(text), time.monotonic() - start
            problem = f"answers {status}: {self._clean(_message(text))}"
            if status not in RETRIED:
                raise self._refused(problem, is_about_key=status in (401, 403))
        raise ResourceError(
            f"the endpoint {self.address.base_url} {problem} ({self.address.retries + 1} tries)",
            where=self.where,
            fix="start it, or raise timeout_s or retries, or lower concurrency; answers so far are kept",
        )

    def _exchange(self, path: str, body: Mapping[str, Any]) -> tuple[int, str, float]:
        """(status, body, seconds that Retry-After asks for) of one request on its own connection."""
        host, port = self._url.hostname, self._url.port
        assert host is not None, "the options refuse an address without a host"
        kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
        connection = kind(host, port, timeout=self.address.timeout_s)
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        try:
            connection.request("POST", self._url.path + path, body=json.dumps(body).encode(), headers=headers)
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

    def _refused(self, problem: str, *, is_about_key: bool = False) -> ConfigError:
        fix = "check the key in the variable that api_key_env names" if is_about_key else "check base_url and model"
        return ConfigError(f"the endpoint {self.address.base_url} {problem}", where=self.where, fix=fix)

    def _garbage(self, text: str) -> ResourceError:
        return ResourceError(
            f"the endpoint {self.address.base_url} answers something that is no chat completion: {self._clean(text)}",
            where=self.where,
            fix="give the address of an OpenAI-compatible server, usually ending in /v1",
        )

    def _clean(self, text: str) -> str:
        """One short line without the key."""
        hidden = text.replace(self._key, "***") if self._key else text
        return " ".join(hidden.split())[:_SHOWN] or "nothing"


def _key(variable: str, where: str) -> str:
    if not variable:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ConfigError(
            f"the environment variable {variable} is not set", where=where, fix=f"export {variable}=... before the run"
        )
    if not key.isascii() or not key.isprintable():
        raise ConfigError(
            f"the environment variable {variable} holds characters that no key has", where=where, fix="set it again"
        )
    return key


def _pause(attempt: int, asked: float) -> float:
    """Seconds before try number `attempt`: doubled each time, up to half as much again so that clients spread, and
    never less than the endpoint asked for, up to LONGEST_WAIT_S."""
    doubled = FIRST_WAIT_S * 2.0 ** (attempt - 1)
    return min(max(asked, doubled * random.uniform(1.0, 1.5)), LONGEST_WAIT_S)  # noqa: S311 (no secret)


def _count(usage: Any, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if type(value) is int and value >= 0 else -1


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
