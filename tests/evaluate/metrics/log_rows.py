"""Rows of logs for the tests of resolution and handling time."""

from __future__ import annotations

from typing import Any

from tunewright.core.scoring import Sample
from tunewright.evaluate.metrics.resolution_log import as_score_row


def turn(role: str, time: Any = None, resolved: Any = None) -> dict[str, Any]:
    made = {"role": role, "content": f"{role} says"}
    return made | ({} if time is None else {"time": time}) | ({} if resolved is None else {"resolved": resolved})


def at(day: int, minute: float = 0) -> str:
    """A time on a day of March 2026, so many minutes after nine in the morning in Shanghai."""
    whole, seconds = divmod(round(minute * 60), 60)
    return f"2026-03-{day:02d}T{9 + whole // 60:02d}:{whole % 60:02d}:{seconds:02d}+08:00"


def contact(name: str, turns: list[dict[str, Any]], **metadata: Any) -> Sample:
    row = as_score_row({"id": name, "conversation": turns, "metadata": metadata})
    return Sample.model_validate(row)


def short(name: str, day: int, *, customer: str | None = "c1", resolved: Any = True, **more: Any) -> Sample:
    """One question and its answer two minutes later."""
    known = {"intent": "card_lost", **({} if customer is None else {"customer": customer}), **more}
    known |= {} if resolved is None else {"resolved": resolved}
    return contact(name, [turn("user", at(day)), turn("assistant", at(day, 2))], **known)
