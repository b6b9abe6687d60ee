"""Options of the metrics over logs of conversations; imports core only."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tunewright.evaluate.metrics.options import RowMetricOptions


class LogMetricOptions(RowMetricOptions):
    """A metric over recorded conversations (docs/guides/logs.md), not over answers that a model gives now."""

    turns: str = "metadata.turns"
    """The metadata key that holds the turns: a list of {role, content, time}."""


class ResolutionOptions(LogMetricOptions):
    """How many contacts were resolved: by one answer, at the first contact; and a proxy over goal slots."""

    name: Literal["resolution"] = "resolution"
    resolved: str = "metadata.resolved"
    """The metadata key that says whether the contact was resolved: yes or no, or one such label a rater."""
    customer: str = "metadata.customer"
    """The metadata key that says who asked."""
    intent: str = "metadata.intent"
    """The metadata key that says what about; a customer who is back with the same intent was not helped."""
    window_days: float = Field(default=7.0, gt=0)
    """Days within which the same customer may not be back with the same intent."""
    observed_until: str = ""
    """The time up to which the log is complete; default the last time in it. Contacts whose window ends later are not
    decided."""
    goal_slots: str = "metadata.goal_slots"
    """The metadata key that holds how many pieces of information the user was after."""
    goal_slots_done: str = "metadata.goal_slots_done"
    """The metadata key that holds how many of them were given."""


class HandlingTimeOptions(LogMetricOptions):
    """Minutes of work a contact: talk, hold and wrap-up of people; for a bot the time of its turns."""

    name: Literal["handling_time"] = "handling_time"
    talk: str = "metadata.talk_s"
    """The metadata key that holds seconds of talk with a person."""
    hold: str = "metadata.hold_s"
    """The metadata key that holds seconds on hold."""
    wrap: str = "metadata.wrap_s"
    """The metadata key that holds seconds of work after the contact."""
