"""Progress: append-only `events.jsonl`, and on stderr a line with the time left for anything over two seconds."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

ItemT = TypeVar("ItemT")
QUIET_S = 2.0
REFRESH_S = 0.5


def say(text: str) -> None:
    """One line of log on stderr; results go to stdout."""
    Progress.clear_line()
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


class Events:
    """Writer of one stage's `events.jsonl`. Every line is a whole JSON document with a time in seconds."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._start = time.monotonic()

    def write(self, event: str, **values: Any) -> None:
        """Appends `{"event", "seconds", ...}`; without a path nothing is written."""
        if self._path is None:
            return
        row = {"event": event, "seconds": round(time.monotonic() - self._start, 3), **values}
        with self._path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")


def read_events(path: Path) -> list[dict[str, Any]]:
    """All whole lines of an events file; a cut last line (a killed process) is left out."""
    rows = []
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                continue
    return rows


class Progress:
    """A counter with time left. Silent for the first two seconds, then one line that is rewritten in place.

    Where stderr is no terminal a plain line is printed every ten seconds instead.
    """

    _shown = False

    def __init__(self, label: str, total: int) -> None:
        self.label, self.total, self.done = label, total, 0
        self._start = self._last = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear_line()

    def advance(self, count: int = 1, note: str = "") -> None:
        """Counts `count` more items done; `note` is shown behind the time left."""
        self.done += count
        now = time.monotonic()
        elapsed = now - self._start
        interval = REFRESH_S if sys.stderr.isatty() else 10.0
        if elapsed < QUIET_S or now - self._last < interval:
            return
        self._last = now
        text = f"  {self.label}: {self.done}/{self.total}, {self._time(elapsed)}{'  ' + note if note else ''}"
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[2K" + text)
            Progress._shown = True
        else:
            sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def _time(self, elapsed: float) -> str:
        if not self.done:
            return f"{clock(elapsed)} so far"
        return f"{clock(elapsed / self.done * max(self.total - self.done, 0))} left"

    @classmethod
    def clear_line(cls) -> None:
        """Removes the rewritten line, so that other output starts clean."""
        if cls._shown:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
            cls._shown = False


def track(items: Iterable[ItemT], label: str, total: int) -> Iterator[ItemT]:
    """Yields `items` and shows progress."""
    with Progress(label, total) as progress:
        for item in items:
            yield item
            progress.advance()


def clock(seconds: float) -> str:
    """75 -> '1:15'."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
