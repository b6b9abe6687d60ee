"""The client side of benchmarks/serve.py: questions of one length, closed and open loops over HTTP, percentiles.

A closed loop keeps `concurrency` requests in flight; an open loop sends at random (Poisson) moments whatever the server
does, so that a slow server shows as waiting. Both ask with streaming, greedy, every question new.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tunewright.core.chat import Message
from tunewright.models.tokens import ChatTokenizer

TOPICS = ("the sea", "a long road", "winter", "old trees", "a small town", "the moon", "bread", "a quiet river")
PADDING = " It has a beginning, a middle and an end, and nobody in it knows what the others know."


@dataclass(frozen=True)
class Place:
    """url: a server's, without a path. extra: fields that a server needs besides the usual."""

    url: str
    model: str
    key: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """One answer as its client saw it. status: of HTTP, 0 where the connection broke; seconds from the first byte sent;
    step_s: between two pieces after the first, on average; retry_after: of a refusal."""

    status: int
    first_token_s: float = 0.0
    seconds: float = 0.0
    tokens: int = 0
    text: str = ""
    retry_after: str | None = None

    @property
    def step_s(self) -> float:
        """Seconds a token after the first one."""
        return (self.seconds - self.first_token_s) / max(1, self.tokens - 1)


def question(tokenizer: ChatTokenizer, number: int, prompt_tokens: int) -> str:
    """A question nobody asked before, whose prompt has about `prompt_tokens` tokens."""
    text = f"({number}) Tell me a very long story about {TOPICS[number % len(TOPICS)]}."

    def size(candidate: str) -> int:
        return len(tokenizer.prompt_ids([Message(role="user", content=candidate)]))

    words = (PADDING * 20).split(" ")
    for count in range(len(words)):
        longer = text + " ".join(words[:count])
        if size(longer) >= prompt_tokens:
            return longer
    raise ValueError(f"no question has {prompt_tokens} tokens")


def ask(place: Place, text: str, new_tokens: int, timeout_s: float = 600.0) -> Answer:
    """One streamed answer; a refusal or a broken connection is an answer too."""
    address = urlsplit(place.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=timeout_s)
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {place.key}"} if place.key else {})
    body = {"model": place.model, "messages": [{"role": "user", "content": text}], "max_tokens": new_tokens}
    body |= {"temperature": 0, "stream": True, "stream_options": {"include_usage": True}} | place.extra
    start = time.perf_counter()
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        return _read(connection.getresponse(), start)
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, seconds=time.perf_counter() - start, text=f"{type(error).__name__}: {error}")
    finally:
        connection.close()


def _read(response: http.client.HTTPResponse, start: float) -> Answer:
    """Reads a stream; tokens are counted by the server's usage, else by pieces."""
    if response.status != 200:
        told = response.read(1000).decode("utf-8", "replace")
        took = time.perf_counter() - start
        return Answer(response.status, seconds=took, text=told, retry_after=response.getheader("Retry-After"))
    first, pieces, tokens = 0.0, [], 0
    for line in response:
        data = line.decode("utf-8").strip().removeprefix("data: ")
        if data == "[DONE]":
            break
        if not data.startswith("{"):
            continue
        event = json.loads(data)
        if "error" in event:
            return Answer(500, seconds=time.perf_counter() - start, text=str(event["error"]))
        tokens = (event.get("usage") or {}).get("completion_tokens") or tokens
        piece = "".join(choice["delta"].get("content") or "" for choice in event.get("choices", []))
        if piece:
            first = first or time.perf_counter() - start
            pieces.append(piece)
    took = time.perf_counter() - start
    return Answer(200, first or took, took, tokens or len(pieces), "".join(pieces))


@dataclass(frozen=True)
class Loop:
    """All answers of one loop and the seconds from the first request to the last answer."""

    answers: Sequence[Answer]
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        """New tokens of whole answers over the loop's wall time."""
        return sum(answer.tokens for answer in self.answers if answer.status == 200) / self.seconds

    def percentile(self, name: str, share: float) -> float:
        """Of a time of whole answers (`first_token_s`, `step_s`, `seconds`); nan when there is none."""
        found = sorted(getattr(answer, name) for answer in self.answers if answer.status == 200)
        return found[min(len(found) - 1, int(share * len(found)))] if found else float("nan")

    def statuses(self) -> dict[int, int]:
        """How many answers had which HTTP status."""
        seen = [answer.status for answer in self.answers]
        return {status: seen.count(status) for status in sorted(set(seen))}


def closed(place: Place, questions: Sequence[str], new_tokens: int, concurrency: int) -> Loop:
    """`concurrency` requests in flight until all questions are answered."""
    start = time.perf_counter()
    with ThreadPoolExecutor(concurrency) as pool:
        answers = list(pool.map(lambda text: ask(place, text, new_tokens), questions))
    return Loop(answers, time.perf_counter() - start)


def open_loop(place: Place, questions: Sequence[str], new_tokens: int, rate: float, seed: int = 7) -> Loop:
    """One request a question at Poisson moments, `rate` of them a second on average, however many are in flight."""
    draw = random.Random(seed)
    answers: list[Answer | None] = [None] * len(questions)

    def one(index: int) -> None:
        answers[index] = ask(place, questions[index], new_tokens)

    start = time.perf_counter()
    running: list[threading.Thread] = []
    due = start
    for index in range(len(questions)):
        time.sleep(max(0.0, due - time.perf_counter()))
        running.append(threading.Thread(target=one, args=(index,)))
        running[-1].start()
        due += draw.expovariate(rate)
    for thread in running:
        thread.join()
    return Loop([answer for answer in answers if answer is not None], time.perf_counter() - start)
