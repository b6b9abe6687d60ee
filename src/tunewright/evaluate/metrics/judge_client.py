"""The judge behind its service: many questions, several at a time."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tunewright.core.events import track
from tunewright.evaluate.metrics.judge_options import JudgeOptions
from tunewright.evaluate.systems.http_client import HttpClient

WHERE = "evaluate.metrics.judge"
Messages = Sequence[dict[str, str]]


class JudgeClient:
    """One service and model. Raises ConfigError when the variable of its key is not set; nothing is sent yet."""

    def __init__(self, options: JudgeOptions) -> None:
        self._options = options
        self._client = HttpClient(options.address, where=f"{WHERE}.address")

    def replies(self, questions: Sequence[Messages], *, label: str) -> list[str]:
        """The text of each reply, in order. Raises ConfigError and ResourceError as `HttpClient` does; what has not
        been sent by then is not sent any more."""
        pool = ThreadPoolExecutor(self._options.address.concurrency, thread_name_prefix="judge")
        try:
            return list(track(pool.map(self._ask, questions), label, len(questions)))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _ask(self, messages: Messages) -> str:
        address = self._options.address
        body: dict[str, Any] = {
            "model": address.model,
            "messages": list(messages),
            address.limit_key: self._options.max_tokens,
        }
        if address.sends_temperature:
            body["temperature"] = 0
        return self._client.complete(body).text
