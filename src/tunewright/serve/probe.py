"""A measurement of a running server through its own HTTP door, with streaming, as a client sees it."""

from __future__ import annotations

import http.client
import json
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tunewright.core.chat import Message
from tunewright.core.errors import TunewrightError
from tunewright.models.tokens import ChatTokenizer

TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Target:
    """Where and how to ask. `url`: the server's, without a path."""

    url: str
    model: str
    api_key: str | None
    max_tokens: int


@dataclass(frozen=True)
class Timing:
    """One streamed answer as its client saw it. Times in seconds from the request's first byte."""

    first_token_s: float
    seconds: float
    prompt_tokens: int
    completion_tokens: int
    text: str


@dataclass(frozen=True)
class Speed:
    """first_token_s: median at concurrency 1. tokens_per_second: new tokens of all answers over wall time."""

    first_token_s: float
    tokens_per_second: float
    requests: int
    concurrency: int


def measure_speed(target: Target, prompts: Sequence[Sequence[Message]], *, singles: int, concurrency: int) -> Speed:
    """One warm-up, then `singles` prompts one by one, then all prompts `concurrency` at a time. Prompts repeat."""
    ask(target, prompts[0])
    first = [ask(target, prompts[index % len(prompts)]).first_token_s for index in range(singles)]
    started = time.monotonic()
    with ThreadPoolExecutor(concurrency) as pool:
        timings = list(pool.map(lambda prompt: ask(target, prompt), prompts))
    took = time.monotonic() - started
    tokens = sum(timing.completion_tokens for timing in timings)
    return Speed(statistics.median(first), tokens / took, len(prompts), concurrency)


def ask(target: Target, messages: Sequence[Message]) -> Timing:
    """One streamed greedy answer; raises TunewrightError when the server refuses or breaks off."""
    place = urlsplit(target.url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=TIMEOUT_S)
    headers = {"Content-Type": "application/json"}
    if target.api_key is not None:
        headers["Authorization"] = f"Bearer {target.api_key}"
    body = json.dumps(
        {
            "model": target.model,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "max_tokens": target.max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    )
    started = time.monotonic()
    try:
        connection.request("POST", "/v1/chat/completions", body, headers)
        return _read(connection.getresponse(), started)
    except (OSError, http.client.HTTPException) as error:
        raise TunewrightError(f"the server broke off: {type(error).__name__}: {error}", where=target.url) from None
    finally:
        connection.close()


def _read(response: http.client.HTTPResponse, started: float) -> Timing:
    if response.status != 200:
        raise TunewrightError(f"the server answered {response.status}: {response.read(500).decode(errors='replace')}")
    first = 0.0
    pieces: list[str] = []
    usage = {"prompt_tokens": 0, "completion_tokens": 0}
    for line in response:
        data = line.decode("utf-8").strip().removeprefix("data: ")
        if data == "[DONE]":
            took = time.monotonic() - started
            return Timing(first or took, took, usage["prompt_tokens"], usage["completion_tokens"], "".join(pieces))
        if not data or data.startswith(":"):  # llama.cpp pings in a long silence
            continue
        event: dict[str, Any] = json.loads(data)
        if "error" in event:
            raise TunewrightError(f"the server broke off: {event['error']['message']}")
        usage = event.get("usage") or usage
        piece = "".join(choice["delta"].get("content") or "" for choice in event["choices"])
        if piece and not first:
            first = time.monotonic() - started
        pieces.append(piece)
    raise TunewrightError("the server's stream ended without [DONE]")


def fitting(messages: Sequence[Message], tokenizer: ChatTokenizer, limit: int) -> tuple[Message, ...]:
    """`messages` when they have at most `limit` tokens, else the last of them, cut from the left until it fits."""
    kept = tuple(messages)
    if len(tokenizer.prompt_ids(kept)) <= limit:
        return kept
    text = kept[-1].content or ""
    while text and len(tokenizer.prompt_ids([Message(role="user", content=text)])) > limit:
        text = text[(len(text) + 3) // 4 :]
    return (Message(role="user", content=text),)
