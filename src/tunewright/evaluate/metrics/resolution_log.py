"""A log's conversations: turns with their times, labels of raters, and a log's row as a row of `score`."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tunewright.core.errors import ArtifactError, ConfigError
from tunewright.core.scoring import Sample
from tunewright.evaluate.rows import metadata_at

GUIDE = "see docs/guides/logs.md"
ROLES = ("user", "assistant", "system", "tool")
MILLISECONDS_FROM = 1e11
"""A number as large as this is a time in milliseconds: in seconds it would lie after the year 5000."""
_YES = {"yes", "true", "y", "1", "resolved", "solved", "是", "已解决", "解决", "有"}
_NO = {"no", "false", "n", "0", "unresolved", "unsolved", "否", "未解决", "没解决", "没有", "无"}


@dataclass(frozen=True)
class Turn:
    """time: seconds since 1970 (UTC), None where it is missing or unreadable; has_zone: whether it names its zone."""

    role: str
    time: float | None
    has_zone: bool
    resolved: bool | None


def as_score_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A log's row `{"id", "conversation", "metadata"}` as `score` reads rows: its turns stand in `metadata.turns`, its
    last answer is the prediction. Any other row is given back as it is.

    Raises ValueError when `conversation` is no list of turns.
    """
    turns = row.get("conversation")
    if "prediction" in row or turns is None:
        return dict(row)
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise ValueError("'conversation' must be a list of turns {role, content, time}")
    said = {role: [turn.get("content") or "" for turn in turns if turn.get("role") == role] for role in ROLES[:2]}
    metadata = row.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise ValueError("'metadata' must be an object")
    return {
        "id": row.get("id"),
        "prompt": next(iter(said["user"]), ""),
        "prediction": said["assistant"][-1] if said["assistant"] else "",
        "reference": "",
        "metadata": {**(metadata or {}), "turns": turns},
    }


def turns_of(sample: Sample, key: str) -> list[Turn]:
    """The turns at the metadata key, of users and assistants; empty where there are none. Raises ArtifactError for
    what is no turn."""
    found = metadata_at(sample.metadata, key)
    if found is None:
        return []
    if not isinstance(found, list | tuple):
        raise ArtifactError(f"'{key}' is no list of turns", where=f"row {sample.id}", fix=GUIDE)
    turns = [_turn(one, sample.id) for one in found]
    return [turn for turn in turns if turn.role in ("user", "assistant")]


def _turn(value: Any, name: str) -> Turn:
    role = value.get("role") if isinstance(value, Mapping) else None
    if role not in ROLES:
        raise ArtifactError(
            f"a turn has the role {role!r}", where=f"row {name}", fix=f"use one of {', '.join(ROLES)}; {GUIDE}"
        )
    time, has_zone = seconds_of(value.get("time"))
    return Turn(role, time, has_zone, label_of(value.get("resolved"), name))


def seconds_of(value: Any) -> tuple[float | None, bool]:
    """(seconds since 1970, whether the zone is known) of an ISO 8601 text or a number of seconds or milliseconds; a
    text without zone is read as UTC. (None, False) for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = value / 1000 if abs(value) >= MILLISECONDS_FROM else float(value)
        return seconds, True
    if not isinstance(value, str):
        return None, False
    try:
        moment = datetime.fromisoformat(value.strip().replace("/", "-"))
    except ValueError:
        return None, False
    has_zone = moment.tzinfo is not None
    return (moment if has_zone else moment.replace(tzinfo=UTC)).timestamp(), has_zone


def check_zones(rows: Sequence[Sequence[Turn]]) -> None:
    """Raises ConfigError when some times name their zone and some do not: they cannot be put in an order."""
    known = {turn.has_zone for turns in rows for turn in turns if turn.time is not None}
    if len(known) > 1:
        raise ConfigError(
            "some times of the log name their zone and some do not",
            fix="write every time with its zone, such as 2026-03-01T09:14:05+08:00",
        )


WHY_NOT = "it counts recorded conversations, and their labels and times do not belong to new answers"


def refuse_recordings(metrics: Sequence[object]) -> None:
    """Raises ConfigError when one of the metrics counts recorded conversations: for what lets a model answer anew."""
    for metric in metrics:
        if getattr(metric, "of_recordings", False):
            name = getattr(getattr(metric, "options", None), "name", type(metric).__name__)
            raise ConfigError(
                f"'{name}' cannot score a model: {WHY_NOT}",
                where="evaluate.metrics",
                fix=f"use `tunewright score LOG.jsonl --metrics {name}` on logs of each system, and take it out here",
            )


def refuse_new_answers(metric: object, samples: Sequence[Sample]) -> None:
    """Raises ConfigError for a metric of recordings when an answer has just been generated."""
    if any(sample.new_tokens for sample in samples):
        refuse_recordings([metric])


def label_of(value: Any, name: str) -> bool | None:
    """Yes or no as a label says it, of several raters what most of them say (a tie is no); None without a label.

    Raises ArtifactError for a word that is neither yes nor no.
    """
    if value is None or value == "":
        return None
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        said = [label for label in (label_of(one, name) for one in value) if label is not None]
        return sum(said) * 2 > len(said) if said else None
    if isinstance(value, bool):
        return value
    word = unicodedata.normalize("NFKC", str(value)).strip().casefold()
    if word not in _YES | _NO:
        raise ArtifactError(
            f"the label {str(value)!r} is neither yes nor no", where=f"row {name}", fix=f"write true or false; {GUIDE}"
        )
    return word in _YES
