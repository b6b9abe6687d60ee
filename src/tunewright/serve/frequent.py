"""The questions asked most, out of the log that questions.py writes. Loads no model library."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.core import files
from tunewright.core.errors import ArtifactError


@dataclass(frozen=True)
class Frequent:
    """A question and how often it was asked. `request`: a chat request without model, as `serve warm` takes it."""

    count: int
    text: str
    request: dict[str, Any]


def older(path: Path) -> Path:
    """Where the log's older half is."""
    return path.with_suffix(".older.jsonl")


def top(path: Path, count: int) -> list[Frequent]:
    """The `count` questions asked most. They are the same when only case and blanks differ; shown is the form asked
    most. Raises ArtifactError when nothing was logged."""
    if not path.exists() and not older(path).exists():
        raise ArtifactError(
            "no questions were logged", where=str(path), fix="set serve.log_questions: true and serve for a while"
        )
    counts: Counter[str] = Counter()
    forms: dict[str, Counter[str]] = {}
    for request in _requests(path):
        same = json.dumps([_plain(turn["content"]) for turn in request["messages"]], ensure_ascii=False)
        counts[same] += 1
        forms.setdefault(same, Counter())[json.dumps(request, ensure_ascii=False)] += 1
    found = []
    for same, number in counts.most_common(count):
        request = json.loads(forms[same].most_common(1)[0][0])
        found.append(Frequent(number, str(request["messages"][-1]["content"]), request))
    return found


def write(path: Path, questions: Iterable[Frequent]) -> None:
    """As JSONL for `serve warm`."""
    files.write_jsonl(path, [{"count": question.count, **question.request} for question in questions])


def _requests(path: Path) -> Iterator[dict[str, Any]]:
    for place in (older(path), path):
        if place.exists():
            with place.open(encoding="utf-8") as lines:
                yield from (row["request"] for row in _rows(lines))


def _rows(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Whole lines; one that a stopped server cut is left out."""
    for line in lines:
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
