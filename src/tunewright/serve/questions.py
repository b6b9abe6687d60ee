"""The log of questions (opt-in). Personal data is masked before anything is written."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from tunewright.core.events import say
from tunewright.core.text.pii import KINDS
from tunewright.serve.frequent import older
from tunewright.serve.redact import masked
from tunewright.serve.wire import ChatRequest

MAX_BYTES = 32_000_000
"""The log is two files of at most this size; then the older one is dropped."""
LONGEST = 2000
"""Characters; a longer question is nobody else's."""
_LEFT_OUT = {"model", "stream", "stream_options", "user"}


class QuestionLog:
    """Appends first questions of conversations to `path`, readable by its owner alone."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES, tell: Callable[[str], None] = say) -> None:
        """tell: gets a line when the disk takes no more; that costs a line of the log, never an answer."""
        self._path, self._max_bytes, self._tell = path, max_bytes, tell

    def write(self, request: ChatRequest) -> None:
        """Logs a request with one user turn and no earlier answers; any other is no frequent question."""
        roles = [message.role for message in request.messages]
        if roles.count("user") != 1 or roles[-1] != "user" or not set(roles) <= {"system", "user"}:
            return
        if sum(len(part.text) for message in request.messages for part in message.content) > LONGEST:
            return
        asked = masked(request, KINDS).model_dump(exclude_unset=True, exclude=_LEFT_OUT)
        asked["messages"] = [
            {"role": turn["role"], "content": "".join(part["text"] for part in turn["content"])}
            for turn in asked["messages"]
        ]
        line = json.dumps({"time": round(time.time()), "request": asked}, ensure_ascii=False)
        try:
            self._rotate()
            with open(self._path, "a", encoding="utf-8", opener=_private) as handle:
                handle.write(line + "\n")
        except OSError as error:
            self._tell(f"serve: the log of questions cannot be written: {error.strerror}")

    def _rotate(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._path.exists() and self._path.stat().st_size > self._max_bytes:
            self._path.replace(older(self._path))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
