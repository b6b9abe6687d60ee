"""Why a request got no answer, in the engine's words; the HTTP layer gives each its status."""

from __future__ import annotations

import traceback
from pathlib import Path

MAX_RETRY_S = 60


class EngineFault(Exception):
    """The engine failed while it worked on this request."""


class Interrupted(EngineFault):
    """The server stops and the answer was not finished in time."""


class Expired(EngineFault):
    """The request's time is over."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"The answer was not finished within {limit_s:g} s, the limit of this request.")


class Refused(EngineFault):
    """The server behind this one did not take the request. status, code, param: as this server should answer."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None, retry_after_s: int = 0
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param, self.retry_after_s = status, code, param, retry_after_s


class NotReady(Exception):
    """The engine is loading, failed or stopped."""


class QueueFull(Exception):
    """No place to wait; `retry_after_s` is a guess at when there will be one."""

    def __init__(self, waiting: int, *, turns: float, turn_s: float) -> None:
        """turns: full batches that are ahead; turn_s: what one took so far."""
        super().__init__(f"{waiting} requests are waiting already")
        self.waiting = waiting
        self.retry_after_s = min(MAX_RETRY_S, max(1, round(turn_s * turns / 2)))


class ContextExceeded(Exception):
    """Prompt and answer do not fit into the model's context (all in tokens)."""

    def __init__(self, prompt: int, new: int, context: int) -> None:
        super().__init__(
            f"This model's maximum context length is {context} tokens. However, you requested {prompt + new} tokens "
            f"({prompt} in the messages, {new} in the completion). "
            "Please reduce the length of the messages or completion."
        )


def place_of(error: BaseException) -> str:
    """Class and place of a fault without its text, which may hold a message's content."""
    frame = next(iter(traceback.extract_tb(error.__traceback__)[-1:]), None)
    return f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}" if frame else type(error).__name__
