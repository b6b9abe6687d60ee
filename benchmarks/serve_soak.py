"""`benchmarks/serve.py --soak SECONDS`: our server at twice its capacity, in float32.

Each question's answer alone is known beforehand, and no two are the same; under load the answer must be that one. One
that is another question's would be crossed; one that is neither differs (in float32 a sum depends on the batch in its
last digits, so a few may). Requests come at random moments at twice the throughput measured just before; what does not
fit is answered 429 with Retry-After, and nothing else. Memory of the server is read every second.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

import serve_load as load
import serve_sides as sides
from tunewright.models.tokens import ChatTokenizer

QUESTIONS, PROMPT_TOKENS, NEW_TOKENS, BATCH, QUEUE = 48, 64, 32, 8, 16


class Memory:
    """The resident bytes of a process, once a second, until `stop`."""

    def __init__(self, process: int) -> None:
        self.seen: list[int] = []
        self._process, self._ended = psutil.Process(process), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(1.0):
            self.seen.append(self._process.memory_info().rss)

    def stop(self) -> dict[str, float]:
        """Megabytes: the median of each quarter of the time, and the peak."""
        self._ended.set()
        self._thread.join()
        size = max(1, len(self.seen) // 4)
        quarters = [sorted(self.seen[index * size : (index + 1) * size]) for index in range(4)]
        told = {f"quarter_{index + 1}_mb": part[len(part) // 2] / 1e6 for index, part in enumerate(quarters) if part}
        return {name: round(value, 1) for name, value in (told | {"peak_mb": max(self.seen) / 1e6}).items()}


def soak(folder: Path, seconds: float) -> dict[str, Any]:
    """What became of every request, and the server's memory over time."""
    tokenizer = ChatTokenizer.load(folder)
    questions = [load.question(tokenizer, number, PROMPT_TOKENS) for number in range(QUESTIONS)]
    settings = {"batch_size": BATCH, "queue": QUEUE, "cache": {"store": "off"}, "dtype": "float32"}
    with sides.server(folder, **settings) as (url, process):
        place = load.Place(url, "bench")
        alone = distinct({text: load.ask(place, text, NEW_TOKENS).text for text in questions})
        questions = list(alone)
        full = load.closed(place, questions, NEW_TOKENS, BATCH)
        capacity = len(questions) / full.seconds
        count = max(1, int(2 * capacity * seconds))
        asked = list(itertools.islice(itertools.cycle(questions), count))
        memory = Memory(process)
        loop = load.open_loop(place, asked, NEW_TOKENS, 2 * capacity)
        held = memory.stop()
        after = load.ask(place, questions[0], NEW_TOKENS)
    whole = [(text, one) for text, one in zip(asked, loop.answers, strict=True) if one.status == 200]
    refused = [one for one in loop.answers if one.status == 429]
    return {
        "seconds": round(loop.seconds, 1),
        "capacity_requests_per_second": round(capacity, 2),
        "requests": count,
        "statuses": loop.statuses(),
        "refused_without_retry_after": sum(one.retry_after is None for one in refused),
        **judged(whole, alone),
        "answered_after_it": after.status == 200 and after.text == alone[questions[0]],
        "first_token_p95_s": round(loop.percentile("first_token_s", 0.95), 3),
        "memory": held,
    }


def distinct(alone: dict[str, str]) -> dict[str, str]:
    """Without questions whose answer is another's too: a crossed answer would not show."""
    owners = {answer: text for text, answer in reversed(alone.items())}
    return {text: answer for answer, text in reversed(owners.items())}


def judged(whole: list[tuple[str, load.Answer]], alone: dict[str, str]) -> dict[str, int]:
    """How many answers are the question's own, another's, or neither."""
    owners = {answer: text for text, answer in alone.items()}
    kinds = Counter(
        "own" if one.text == alone[text] else "crossed" if one.text in owners else "differs" for text, one in whole
    )
    return {"distinct_answers": len(owners)} | {kind: kinds[kind] for kind in ("own", "crossed", "differs")}
