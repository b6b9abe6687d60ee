"""A server asked over real HTTP: any that speaks OpenAI's chat completions. Nothing is taken from its cache."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tunewright.chain.questions import Question, Reply
from tunewright.core.errors import ConfigError, ResourceError, TunewrightError

TIMEOUT_S = 600.0
MODELS_TIMEOUT_S = 20.0
BUSY_S = (1.0, 2.0, 4.0, 8.0)
"""Waits before a busy server (429, 503) is asked again."""
_HEADERS = {"Content-Type": "application/json", "Cache-Control": "no-cache, no-store"}


@dataclass(frozen=True)
class Address:
    """scheme: http or https; place: `host:port`; base: the path in front of `/v1`."""

    scheme: str
    place: str
    base: str

    @classmethod
    def of(cls, url: str) -> Address:
        """Takes the address with or without `/v1` at its end; a user and password in it are not kept. Raises
        ConfigError for anything else."""
        parts = urlsplit(url)
        port: int | None = None
        try:
            port, is_port = parts.port, True
        except ValueError:
            is_port = False
        if not is_port or parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ConfigError(f"'{url}' is no address of a server", fix="--server http://127.0.0.1:8000")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        base = parts.path.rstrip("/").removesuffix("/v1")
        return cls(parts.scheme, host if port is None else f"{host}:{port}", base)

    @property
    def text(self) -> str:
        """For the screen and chain.json."""
        return f"{self.scheme}://{self.place}{self.base}"

    def request(self, method: str, path: str, body: Any, *, key: str | None, timeout_s: float) -> Any:
        """The parsed answer; a busy server is asked again. Raises ResourceError where nobody listens, TunewrightError
        where the server refuses."""
        for wait_s in (*BUSY_S, None):
            status, content = self._exchange(method, path, body, key=key, timeout_s=timeout_s)
            if status not in (429, 503) or wait_s is None:
                break
            time.sleep(wait_s)
        if status != 200:
            said = content[:300].decode(errors="replace")
            raise TunewrightError(f"the server answered {status}: {said}", where=self.text)
        return _parsed(content, self.text)

    def _exchange(self, method: str, path: str, body: Any, *, key: str | None, timeout_s: float) -> tuple[int, bytes]:
        """(status, body)."""
        kind = http.client.HTTPSConnection if self.scheme == "https" else http.client.HTTPConnection
        connection = kind(self.place, timeout=timeout_s)
        headers = _HEADERS | ({"Authorization": f"Bearer {key}"} if key else {})
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, f"{self.base}{path}", data, headers)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            raise ResourceError(
                f"the server cannot be reached: {error or type(error).__name__}",
                where=self.text,
                fix="start it, or leave out --server to let the chain start one",
            ) from None
        finally:
            connection.close()


def _parsed(content: bytes, where: str) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        raise TunewrightError("the server's answer is no JSON", where=where, fix="is it an OpenAI server?") from None


@dataclass(frozen=True)
class Door:
    """One served model. about: what /v1/models says of it."""

    address: Address
    model: str
    about: dict[str, Any]
    key: str | None
    together: int

    @classmethod
    def open(cls, url: str, *, name: str, key: str | None, together: int) -> Door:
        """The model `name`, or the only one that is served. together: requests at a time. Raises ResourceError where
        nobody listens, ConfigError where several models are served and none has this name."""
        address = Address.of(url)
        found = address.request("GET", "/v1/models", None, key=key, timeout_s=MODELS_TIMEOUT_S)
        rows = found.get("data") if isinstance(found, dict) else None
        models = [row for row in rows or () if isinstance(row, dict) and isinstance(row.get("id"), str)]
        chosen = next((row for row in models if row["id"] == name), models[0] if len(models) == 1 else None)
        if chosen is None:
            named = ", ".join(repr(row["id"]) for row in models[:5]) or "no model"
            raise ConfigError(f"the server has {named}, and the project is '{name}'", where=address.text)
        return cls(address, chosen["id"], chosen, key, together)

    def answers(self, questions: Sequence[Question], *, max_new_tokens: int) -> list[Reply]:
        """Greedy answers in order. Raises TunewrightError where the server refuses a row."""
        with ThreadPoolExecutor(self.together) as pool:
            return list(pool.map(lambda question: self._answer(question, max_new_tokens), questions))

    def _answer(self, question: Question, max_new_tokens: int) -> Reply:
        body = {
            "model": self.model,
            "messages": [{"role": turn.role, "content": turn.content} for turn in question.messages],
            "max_tokens": max_new_tokens,
            "temperature": 0,
        }
        found = self.address.request("POST", "/v1/chat/completions", body, key=self.key, timeout_s=TIMEOUT_S)
        try:
            choice = found["choices"][0]
            text, finish = choice["message"].get("content") or "", choice["finish_reason"]
            counted = (found.get("usage") or {}).get("prompt_tokens")
        except (KeyError, IndexError, TypeError, AttributeError):
            raise TunewrightError("the server's answer is no chat completion", where=self.address.text) from None
        return Reply(str(text), str(finish), None, counted if isinstance(counted, int) else None)
