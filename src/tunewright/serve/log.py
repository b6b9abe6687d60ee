"""The server's log: one line a request, as text or JSON, never with the content of messages."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, Literal


class Log:
    """Writes lines to `sink`. In JSON each line is one object with `time` (seconds since 1970) and `event`."""

    def __init__(self, sink: Callable[[str], None], form: Literal["text", "json"] = "text") -> None:
        self._sink, self._form = sink, form

    def say(self, text: str) -> None:
        """A line about the server itself."""
        self._sink(text if self._form == "text" else self._json("note", {"text": text.removeprefix("serve: ")}))

    def request(self, facts: dict[str, Any]) -> None:
        """A finished request: `request_id`, `method`, `path`, `status`, `ms`, then what the routes add."""
        if self._form == "json":
            self._sink(self._json("request", facts))
            return
        head = " ".join(str(facts[key]) for key in ("request_id", "method", "path", "status"))
        more = "".join(f" {key}={value}" for key, value in list(facts.items())[5:])
        self._sink(f"serve: {head} {facts['ms']} ms{more}")

    def _json(self, event: str, facts: dict[str, Any]) -> str:
        return json.dumps({"time": round(time.time(), 3), "event": event, **facts})
