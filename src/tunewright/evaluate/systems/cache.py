"""Answers on disk, found again by everything that decides them, so that a second evaluation asks only what is new.

One JSON Lines file a system and its settings, `runs/<project>/.cache/answers/<digest>.jsonl`: the first line says what
the answers are of, every other one is an answer with the id of its row. A line is written the moment the answer is
there; a killed evaluation goes on from it. A line that was cut is asked again. Deleting files is always safe. Times are
not kept: what was read from disk was not measured.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright import __version__
from tunewright.core import files
from tunewright.core.runs import Workspace
from tunewright.evaluate.systems.protocol import Answer, OnAnswer

FORMAT = 1
"""Of the files and of the way answers are made; another one finds nothing of the old."""
_KEPT = 64
"""Files that stay when a new one is begun, those used last: a dozen evaluations of a handful of systems."""


@dataclass(frozen=True)
class AnswerCache:
    """folder: where the files lie; None: nothing is kept."""

    folder: Path | None

    def book(self, about: Mapping[str, Any]) -> Book:
        """The answers of one system under these settings; `about` must hold all that decides them but the prompts."""
        if self.folder is None:
            return Book(None, {})
        known = {"format": FORMAT, "tunewright": __version__, **about}
        return Book(self.folder / f"{digest(known)[:32]}.jsonl", known)


def answer_cache(workspace: Workspace, *, on: bool) -> AnswerCache:
    """The cache of a project."""
    return AnswerCache(workspace.root / "runs" / workspace.project / ".cache" / "answers" if on else None)


NO_CACHE = AnswerCache(None)


def digest(value: Any) -> str:
    """Of anything JSON can hold, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


class Book:
    """The answers of one file in memory, and new ones appended to it. Several processes may append at a time."""

    def __init__(self, path: Path | None, about: Mapping[str, Any]) -> None:
        self.path, self._about = path, about
        self._lines = _read(path) if path else {}

    @property
    def keeps(self) -> bool:
        """Whether answers are stored at all."""
        return self.path is not None

    def answer(self, key: str) -> Answer | None:
        """The stored answer, without seconds."""
        line = self._lines.get(key, {})
        if "text" not in line:
            return None
        return Answer(line["text"], line["new_tokens"], line["finish"], 0.0, line["prompt_tokens"])

    def choice(self, key: str) -> str | None:
        """The stored label."""
        return self._lines.get(key, {}).get("choice")

    def keep_answer(self, key: str, row_id: str, answer: Answer) -> None:
        """Stores an answer to the row."""
        self._append(
            {
                "key": key,
                "id": row_id,
                "text": answer.text,
                "new_tokens": answer.new_tokens,
                "finish": answer.finish,
                "prompt_tokens": answer.prompt_tokens,
            }
        )

    def keep_choice(self, key: str, row_id: str, label: str) -> None:
        """Stores a label chosen for the row."""
        self._append({"key": key, "id": row_id, "choice": label})

    def _append(self, line: dict[str, Any]) -> None:
        self._lines[line["key"]] = line
        if self.path is None:
            return
        with files.disk_errors(self.path):
            if not self.path.exists():
                self._begin(self.path)
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                end = os.lseek(descriptor, 0, os.SEEK_END)
                is_cut = end > 0 and os.pread(descriptor, 1, end - 1) != b"\n"  # somebody was killed while writing
                os.write(descriptor, (b"\n" if is_cut else b"") + _encoded(line))
            finally:
                os.close(descriptor)

    def _begin(self, path: Path) -> None:
        """The file with its first line, whole or not at all; old files beyond the newest few go."""
        path.parent.mkdir(parents=True, exist_ok=True)
        used = sorted(path.parent.glob("*.jsonl"), key=lambda other: other.stat().st_mtime)
        for old in used[: max(0, len(used) + 1 - _KEPT)]:
            old.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, _encoded({"about": dict(self._about)}))
        finally:
            os.close(descriptor)


def _encoded(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line, default=str).encode() + b"\n"  # ASCII: an endpoint may send half a surrogate pair


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """Whole answers by key; what is cut or damaged is left out. The file counts as used now."""
    if not path.exists():
        return {}
    os.utime(path)
    found: dict[str, dict[str, Any]] = {}
    for text in path.read_bytes().split(b"\n"):
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and (_is_answer(line) or _is_choice(line)):
            found[line["key"]] = line
    return found


def _is_answer(line: Mapping[str, Any]) -> bool:
    texts, counts = ("key", "id", "text", "finish"), ("new_tokens", "prompt_tokens")
    return all(isinstance(line.get(name), str) for name in texts) and all(
        type(line.get(name)) is int for name in counts
    )


def _is_choice(line: Mapping[str, Any]) -> bool:
    return all(isinstance(line.get(name), str) for name in ("key", "id", "choice"))


def through(
    book: Book, keys: Sequence[str], row_ids: Sequence[str], ask: Callable[[list[int], OnAnswer], None]
) -> tuple[list[Answer], int]:
    """(an answer for each key, how many were on disk). ask: makes those whose places it is given and hands over each
    as soon as it is there, with its place. Without a cache all of them are asked; with one, equal questions once."""
    found: dict[int, Answer] = {}
    if not book.keeps:
        ask(list(range(len(keys))), found.__setitem__)
        return [found[place] for place in range(len(keys))], 0
    known = {place: answer for place, key in enumerate(keys) if (answer := book.answer(key)) is not None}
    first = {key: place for place, key in reversed(list(enumerate(keys))) if place not in known}

    def keep(place: int, answer: Answer) -> None:
        found[place] = answer
        book.keep_answer(keys[place], row_ids[place], answer)

    if first:
        ask(sorted(first.values()), keep)
    fresh = {keys[place]: answer for place, answer in found.items()}
    return [known.get(place) or found.get(place) or fresh[keys[place]] for place in range(len(keys))], len(known)
