"""Resolved contacts of a log: by one answer, at the first contact, and a proxy over goal slots.

Definitions: first-contact resolution as contact centres count it (same customer and intent not back within a window).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tunewright.core.errors import ConfigError
from tunewright.core.scoring import Measured, Sample
from tunewright.evaluate.metrics.counts import rate
from tunewright.evaluate.metrics.resolution_log import (
    WHY_NOT,
    Turn,
    check_zones,
    label_of,
    refuse_new_answers,
    seconds_of,
    turns_of,
)
from tunewright.evaluate.metrics.resolution_options import ResolutionOptions
from tunewright.evaluate.rows import matches, metadata_at, metadata_value

VERSION = 1
DAY = 86400.0


@dataclass(frozen=True)
class Contact:
    """One conversation. needed: how many answers it took, None when it was not resolved by any; start, end: seconds
    since 1970."""

    name: str
    customer: str | None
    intent: str
    start: float | None
    end: float | None
    needed: int | None
    resolved: bool | None

    @property
    def by_one_answer(self) -> bool:
        """Whether the first answer was enough."""
        return bool(self.resolved) and self.needed == 1


@dataclass(frozen=True)
class Verdict:
    """What first-contact resolution says of a contact: outcome, or why it has none."""

    outcome: bool | None
    reason: str


class Resolution:
    """`resolution.single_turn`, `resolution.first_contact`, `resolution.proxy_goal_slots`; 0 to 1. A key is missing
    where no row has what it needs. What a row lacks is counted in the signature."""

    of_recordings = True

    def __init__(self, options: ResolutionOptions) -> None:
        self.options = options

    @staticmethod
    def metric_keys(options: ResolutionOptions) -> list[str]:
        """Flat keys that `measure` produces."""
        return ["resolution.single_turn", "resolution.first_contact", "resolution.proxy_goal_slots"]

    @staticmethod
    def why_no_gate(options: ResolutionOptions) -> str:
        """Why no gate and no primary metric may hang on it."""
        return WHY_NOT

    def applies(self, metadata: Mapping[str, Any]) -> bool:
        """Whether a row with this metadata is scored: it has a label or goal slots."""
        if not matches(metadata, self.options.where):
            return False
        turns = metadata_at(metadata, self.options.turns)
        turns = turns if isinstance(turns, list | tuple) else ()
        labelled = any(isinstance(turn, Mapping) and turn.get("resolved") is not None for turn in turns)
        return labelled or metadata_at(metadata, self.options.resolved) is not None or self._slots(metadata) is not None

    def measure(self, samples: Sequence[Sample]) -> list[Measured]:
        """Scores the samples that match `where`; one without a label still counts as a return of its customer. Raises
        ConfigError for answers that a model has just generated, ArtifactError for a label that is no yes or no."""
        rows = [sample for sample in samples if matches(sample.metadata, self.options.where)]
        refuse_new_answers(self, rows)
        contacts = self._contacts(rows)
        verdicts = list(self._verdicts(contacts).values())
        first = self._first_contact(verdicts, self._observed_until(contacts))
        labelled = [contact for contact in contacts if contact.resolved is not None]
        found = []
        if labelled:
            signature = f"answers needed:1|by label|unlabelled:{len(contacts) - len(labelled)}"
            signature += "" if first else f"|no first contact is decided:{_reasons(verdicts)}"
            outcomes = [contact.by_one_answer for contact in labelled]
            found.append(rate("resolution.single_turn", VERSION, outcomes, signature=signature))
        return [*found, *first, *self._proxy(rows)]

    def _first_contact(self, verdicts: Sequence[Verdict], until: float) -> list[Measured]:
        outcomes = [verdict.outcome for verdict in verdicts if verdict.outcome is not None]
        if not outcomes:
            return []
        said, counted = datetime.fromtimestamp(until, UTC), _reasons(verdicts)
        signature = f"window:{self.options.window_days:g} days|observed until:{said:%Y-%m-%dT%H:%M:%SZ}|by label"
        signature += f"|left out:{counted}" if counted else ""
        return [rate("resolution.first_contact", VERSION, outcomes, signature=signature)]

    def _verdicts(self, contacts: Sequence[Contact]) -> dict[int, Verdict]:
        """By the contact's place in `contacts`."""
        cases: dict[tuple[str, str], list[tuple[float, float, str, int]]] = {}
        verdicts: dict[int, Verdict] = {}
        for place, contact in enumerate(contacts):
            if contact.customer is None or contact.start is None or contact.end is None:
                verdicts[place] = Verdict(None, "without customer or time")
            else:
                case = cases.setdefault((contact.customer, contact.intent), [])
                case.append((contact.start, contact.end, contact.name, place))
        until = self._observed_until(contacts)
        for case in cases.values():
            for before, here, after in _neighbours(sorted(case)):
                verdicts[here[3]] = self._verdict(contacts[here[3]], before, after, until=until)
        return dict(sorted(verdicts.items()))

    def _verdict(self, contact: Contact, before: float | None, after: float | None, *, until: float) -> Verdict:
        """before: when the customer's last contact on this ended; after: when the next one began."""
        assert contact.start is not None and contact.end is not None
        window = self.options.window_days * DAY
        if before is not None and contact.start - before <= window:
            return Verdict(None, "no first contact")
        if contact.resolved is None:
            return Verdict(None, "unlabelled")
        if not contact.resolved:
            return Verdict(False, "not resolved")
        if after is not None and after - contact.end <= window:
            return Verdict(False, "the customer was back")
        if until - contact.end < window:
            return Verdict(None, "window not over")
        return Verdict(True, "resolved")

    def _observed_until(self, contacts: Sequence[Contact]) -> float:
        if not self.options.observed_until:
            return max((contact.end for contact in contacts if contact.end is not None), default=0.0)
        until, _ = seconds_of(self.options.observed_until)
        if until is None:
            raise ConfigError(
                f"'{self.options.observed_until}' is no time",
                where="metric resolution: observed_until",
                fix="write it as 2026-03-31T23:59:59+08:00",
            )
        return until

    def _proxy(self, rows: Sequence[Sample]) -> list[Measured]:
        slots = [found for found in (self._slots(row.metadata) for row in rows) if found is not None]
        if not slots:
            return []
        share = sum(done for done, _ in slots) / sum(wanted for _, wanted in slots)
        signature = f"proxy, no label of a customer or rater:every goal slot given|slots given:{share:.4f}"
        outcomes = [done >= wanted for done, wanted in slots]
        return [rate("resolution.proxy_goal_slots", VERSION, outcomes, signature=signature)]

    def _slots(self, metadata: Mapping[str, Any]) -> tuple[float, float] | None:
        """(given, wanted); None without both numbers or when nothing was wanted."""
        found = [metadata_at(metadata, key) for key in (self.options.goal_slots_done, self.options.goal_slots)]
        numbers = [float(one) for one in found if isinstance(one, int | float) and not isinstance(one, bool)]
        return (numbers[0], numbers[1]) if len(numbers) == 2 and numbers[1] > 0 else None

    def _contacts(self, rows: Sequence[Sample]) -> list[Contact]:
        all_turns = [turns_of(row, self.options.turns) for row in rows]
        check_zones(all_turns)
        return [self._contact(row, turns) for row, turns in zip(rows, all_turns, strict=True)]

    def _contact(self, row: Sample, turns: Sequence[Turn]) -> Contact:
        label = label_of(metadata_at(row.metadata, self.options.resolved), row.id)
        answers = answer_labels(turns) if turns else [None]
        needed = answers_needed(answers)
        if label is None and any(one is not None for one in answers):
            label = needed is not None
        times = [turn.time for turn in turns if turn.time is not None]
        return Contact(
            name=row.id,
            customer=metadata_value(row.metadata, self.options.customer),
            intent=metadata_value(row.metadata, self.options.intent) or "",
            start=min(times, default=None),
            end=max(times, default=None),
            needed=needed,
            resolved=label,
        )

    def explain(self, samples: Sequence[Sample]) -> list[dict[str, Any] | None]:
        """For each sample what was decided and why; None where the metric does not apply."""
        rows = [sample for sample in samples if matches(sample.metadata, self.options.where)]
        contacts = self._contacts(rows)
        verdicts = self._verdicts(contacts)
        said = iter(zip(rows, contacts, verdicts.values(), strict=True))
        return [
            self._explained(*next(said)) if matches(sample.metadata, self.options.where) else None for sample in samples
        ]

    def _explained(self, row: Sample, contact: Contact, verdict: Verdict) -> dict[str, Any] | None:
        if not self.applies(row.metadata):
            return None
        slots = self._slots(row.metadata)
        return {
            "resolved": contact.resolved,
            "answers_needed": contact.needed,
            "single_turn": None if contact.resolved is None else contact.by_one_answer,
            "first_contact": verdict.outcome,
            "reason": verdict.reason,
            "proxy_goal_slots": None if slots is None else slots[0] >= slots[1],
        }


def _reasons(verdicts: Sequence[Verdict]) -> str:
    """Why contacts are not decided, with counts."""
    left_out = [verdict.reason for verdict in verdicts if verdict.outcome is None]
    return "|".join(f"{reason}:{left_out.count(reason)}" for reason in sorted(set(left_out)))


def answer_labels(turns: Sequence[Turn]) -> list[bool | None]:
    """The label of each answer, in order. Turns of the assistant without a user's turn between them are one answer,
    and what it says before the first user turn is none."""
    answers: list[bool | None] = []
    is_open = False
    for turn in turns:
        if turn.role == "user":
            is_open = True
        elif is_open:
            answers.append(turn.resolved)
            is_open = False
        elif answers and turn.resolved is not None:
            answers[-1] = turn.resolved
    return answers


def answers_needed(labels: Sequence[bool | None]) -> int | None:
    """The number of the first answer that is labelled as the one that resolved it; without any such label, all of
    them. None when answers are labelled and none resolved it, or there is no answer."""
    if any(label is not None for label in labels):
        return labels.index(True) + 1 if True in labels else None
    return len(labels) or None


def _neighbours(
    case: Sequence[tuple[float, float, str, int]],
) -> list[tuple[float | None, tuple[float, float, str, int], float | None]]:
    """Each contact of one customer and intent with the latest end of all before it and the start of the next."""
    found = []
    latest: float | None = None
    for place, here in enumerate(case):
        after = case[place + 1][0] if place + 1 < len(case) else None
        found.append((latest, here, after))
        latest = here[1] if latest is None else max(latest, here[1])
    return found
