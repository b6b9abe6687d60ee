"""Handling time of a log's contacts, in minutes.

Of people: (talk + hold + wrap-up) a handled contact. Of a bot: from the first user message to its last message, with
the time in which the user thinks and types apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from tunewright.core.scoring import Aggregate, Floats, Measured, Sample, mean_of_rows
from tunewright.evaluate.metrics.resolution_log import WHY_NOT, Turn, check_zones, refuse_new_answers, turns_of
from tunewright.evaluate.metrics.resolution_options import HandlingTimeOptions
from tunewright.evaluate.rows import applying, matches, metadata_at

VERSION = 1
UNIT = "min"
MINUTE = 60.0


@dataclass(frozen=True)
class Handled:
    """Minutes of one contact. think, span: of the user, and from first to last message; None where people's times are
    recorded. left_out: why it is not counted."""

    minutes: float = 0.0
    think: float | None = None
    span: float | None = None
    left_out: str = ""


class HandlingTime:
    """`handling_time` (mean), `handling_time.p50`, `handling_time.p95`; over contacts with turns also
    `handling_time.user_think` and `handling_time.span` (means; span = handling + thinking). Minutes, less is better.
    """

    of_recordings = True

    def __init__(self, options: HandlingTimeOptions) -> None:
        self.options = options

    @staticmethod
    def metric_keys(options: HandlingTimeOptions) -> list[str]:
        """Flat keys that `measure` produces."""
        parts = ("p50", "p95", "user_think", "span")
        return ["handling_time", *(f"handling_time.{part}" for part in parts)]

    @staticmethod
    def why_no_gate(options: HandlingTimeOptions) -> str:
        """Why no gate and no primary metric may hang on it."""
        return WHY_NOT

    def applies(self, metadata: Mapping[str, Any]) -> bool:
        """Whether a row with this metadata is scored: it has recorded seconds, or turns with a time."""
        if not matches(metadata, self.options.where):
            return False
        turns = metadata_at(metadata, self.options.turns)
        turns = turns if isinstance(turns, list | tuple) else ()
        timed = any(isinstance(turn, Mapping) and turn.get("time") is not None for turn in turns)
        return timed or self._recorded(metadata) is not None

    def measure(self, samples: Sequence[Sample]) -> list[Measured]:
        """Scores the contacts that were handled: those with an answer. The others, and those whose times are missing or
        in disorder, are counted in the signature."""
        rows = applying(samples, self.applies)
        refuse_new_answers(self, rows)
        contacts = self._contacts(rows)
        counted = [one for one in contacts if not one.left_out]
        if not counted:
            return []
        by_turns = [one for one in counted if one.span is not None]
        reasons = [one.left_out for one in contacts if one.left_out]
        left_out = "|".join(f"{reason}:{reasons.count(reason)}" for reason in sorted(set(reasons)))
        signature = (
            f"minutes|talk+hold+wrap:{len(counted) - len(by_turns)}|by turns, user think time apart:{len(by_turns)}"
        )
        signature += f"|left out:{left_out}" if left_out else ""
        minutes = [one.minutes for one in counted]
        found = [
            _minutes("handling_time", minutes, mean_of_rows, f"mean|{signature}"),
            _minutes("handling_time.p50", minutes, percentile(50), signature),
            _minutes("handling_time.p95", minutes, percentile(95), signature),
        ]
        if by_turns:
            think, span = ([getattr(one, part) for one in by_turns] for part in ("think", "span"))
            found.append(_minutes("handling_time.user_think", think, mean_of_rows, f"mean|{signature}"))
            found.append(_minutes("handling_time.span", span, mean_of_rows, f"mean|{signature}"))
        return found

    def _contacts(self, rows: Sequence[Sample]) -> list[Handled]:
        turns = [turns_of(row, self.options.turns) for row in rows]
        check_zones(turns)
        return [self._contact(row, said) for row, said in zip(rows, turns, strict=True)]

    def _contact(self, row: Sample, turns: Sequence[Turn]) -> Handled:
        recorded = self._recorded(row.metadata)
        return by_turns(turns) if recorded is None else Handled(minutes=recorded / MINUTE)

    def _recorded(self, metadata: Mapping[str, Any]) -> float | None:
        """Seconds of talk, hold and wrap-up; None where none of them is recorded."""
        found = [metadata_at(metadata, key) for key in (self.options.talk, self.options.hold, self.options.wrap)]
        numbers = [float(one) for one in found if isinstance(one, int | float) and not isinstance(one, bool)]
        return sum(numbers) if numbers else None

    def explain(self, samples: Sequence[Sample]) -> list[dict[str, Any] | None]:
        """For each sample its minutes, or why it is left out; None where the metric does not apply."""
        contacts = iter(self._contacts(applying(samples, self.applies)))
        return [_explained(next(contacts)) if self.applies(sample.metadata) else None for sample in samples]


def by_turns(turns: Sequence[Turn]) -> Handled:
    """From the first user message to the last answer. The time before a user's message is the user's when an answer
    came before it; a second message without an answer between does not stop the clock."""
    first = next((place for place, turn in enumerate(turns) if turn.role == "user"), None)
    last = max((place for place, turn in enumerate(turns) if turn.role == "assistant"), default=-1)
    if first is None or last < first:
        return Handled(left_out="not answered")
    asked = turns[first : last + 1]
    times = [turn.time for turn in asked if turn.time is not None]
    if len(times) < len(asked):
        return Handled(left_out="without all times")
    if any(later < earlier for earlier, later in pairwise(times)):
        return Handled(left_out="times in disorder")
    gaps = zip(pairwise(asked), pairwise(times), strict=True)
    think = sum(
        later - earlier for (one, two), (earlier, later) in gaps if (one.role, two.role) == ("assistant", "user")
    )
    span = times[-1] - times[0]
    return Handled(minutes=(span - think) / MINUTE, think=think / MINUTE, span=span / MINUTE)


def _explained(contact: Handled) -> dict[str, Any]:
    if contact.left_out:
        return {"left_out": contact.left_out}
    return {"minutes": contact.minutes, "user_think": contact.think, "span": contact.span}


def _minutes(metric: str, values: Sequence[float], aggregate: Aggregate, signature: str) -> Measured:
    statistics = np.array(values, dtype=float)[:, None]
    return Measured(metric, VERSION, statistics, aggregate, unit=UNIT, higher_is_better=False, signature=signature)


def percentile(q: float) -> Aggregate:
    """The aggregate [R, n, 1] -> [R] that takes the q-th percentile over rows."""
    return partial(_percentile, q)


def _percentile(q: float, statistics: Floats) -> Floats:
    found: Floats = np.percentile(statistics[..., 0], q, axis=1)
    return found
