"""Prompts on their way into the running batch: computed piece by piece, so that a long one freezes nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunewright.models.running import Joining, RunningBatch
from tunewright.serve.answers import Answer

WHILE_ROWS_RUN = 256
"""Padded prompt tokens computed between two steps of running rows."""
WHILE_IDLE = 4096
"""The same while no row waits for its next token."""


@dataclass(eq=False)
class Group:
    """Answers whose prompts are computed together."""

    answers: list[Answer]
    joining: Joining

    @property
    def left(self) -> int:
        """Padded tokens that are not computed yet."""
        rows, width = self.joining.ids.shape
        return rows * (width - self.joining.done)


class Prefills:
    """Groups in order of arrival."""

    def __init__(self) -> None:
        self.groups: list[Group] = []

    def begin(self, batch: RunningBatch, answers: Sequence[Answer]) -> None:
        """A group whose prompts are computed from the next turn on."""
        self.groups.append(Group(list(answers), batch.begin([answer.request for answer in answers])))

    def turn(self, budget: int) -> list[Group]:
        """The groups to work on now: the oldest, and one more that can be finished within `budget`, so that a short
        question does not wait for a long prompt before it."""
        short = [group for group in self.groups[1:] if group.left <= budget]
        return [*self.groups[:1], *short[:1]]

    def remove(self, group: Group) -> None:
        """It has joined, or will not."""
        self.groups.remove(group)

    def cancelled(self) -> list[Group]:
        """Removes and returns the groups that nobody waits for any more."""
        gone = [group for group in self.groups if all(answer.request.cancelled for answer in group.answers)]
        for group in gone:
            self.groups.remove(group)
        return gone
