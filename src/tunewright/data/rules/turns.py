"""One sample for each trained answer, with at most `keep_turns` earlier turns as its context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tunewright.core.chat import Message
from tunewright.data.draft import Draft
from tunewright.data.rules.options import TurnsOptions


class Turns:
    """The rule `turns`, a SampleRule."""

    def __init__(self, options: TurnsOptions) -> None:
        self.options = options

    def samples(self, draft: Draft) -> list[Draft]:
        """One draft a trained assistant turn, in order; the draft itself without `keep_turns`.

        The answer is the last turn of its sample and the only one trained. The first sample carries the row's notes,
        tallies and masked texts, so that nothing is counted twice.
        """
        keep = self.options.keep_turns
        if keep is None:
            return [draft]
        system, exchanges = _exchanges(draft.turns)
        samples: list[tuple[Message, ...]] = []
        for number, exchange in enumerate(exchanges):
            earlier = [turn for before in exchanges[max(0, number - keep) : number] for turn in before]
            earlier = [*system, *_from_user(earlier)]
            for index, turn in enumerate(exchange):
                if turn.trained:
                    samples.append((*map(_as_context, (*earlier, *exchange[:index])), turn))
        if not samples:
            return [draft]
        first, *others = samples
        bare = replace(draft, notes=(), tallies={}, masked=())
        return [replace(draft, turns=first), *(replace(bare, turns=turns) for turns in others)]


def _exchanges(turns: Sequence[Message]) -> tuple[list[Message], list[list[Message]]]:
    """(leading system turns, exchanges). An exchange is a user turn, or several in a row, with all that follows up to
    the next user turn; what stands before the first user turn is one of its own."""
    start = next((index for index, turn in enumerate(turns) if turn.role != "system"), len(turns))
    exchanges: list[list[Message]] = []
    for index in range(start, len(turns)):
        opens = turns[index].role == "user" and turns[index - 1].role != "user"
        if opens or not exchanges:
            exchanges.append([])
        exchanges[-1].append(turns[index])
    return list(turns[:start]), exchanges


def _from_user(turns: list[Message]) -> list[Message]:
    """A context that starts with a question, never with half an exchange."""
    start = next((index for index, turn in enumerate(turns) if turn.role == "user"), len(turns))
    return turns[start:]


def _as_context(turn: Message) -> Message:
    return turn.model_copy(update={"train": False}) if turn.trained else turn
