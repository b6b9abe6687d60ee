"""What `max_length` does to a row: prompts cut from the left, conversations cut into their turns."""

from __future__ import annotations

from collections.abc import Iterator

from tunewright.core.chat import Conversation
from tunewright.data.findings import Note, excerpt
from tunewright.models.layout import Layout, TrainedTurn


def length_notes(conversation: Conversation, layout: Layout, *, max_length: int) -> Iterator[Note]:
    """ALL_MASKED where cutting the rendering at its end, as others do, would leave no label; PROMPT_CUT where it
    would lose a part of the answers; TURN_SAMPLES where every trained turn becomes a sequence for want of room.

    A template that rewrites earlier turns has a sequence a turn in any case: the token table counts those rows.
    """
    longest = [turn for turn in layout.turns if turn.end > max_length]
    if not longest:
        return
    shown = excerpt(conversation.messages[0].content or "")
    if layout.whole is not None and len(layout.turns) > 1:
        size, count = layout.turns[-1].end, len(layout.turns)
        reason = f"{size} tokens do not fit into max_length {max_length}: each of {count} answers is a sequence"
        yield Note("TURN_SAMPLES", "kept", reason, shown)
    masked = _masked(layout, longest, max_length)
    if masked is not None:
        reason = (
            f"the prompt of {masked.start} tokens fills max_length {max_length}: "
            "its start is cut so that the answer stays"
        )
        yield Note("ALL_MASKED", "repaired", reason, shown)
        return
    turn = longest[-1]
    reason = (
        f"prompt and answer have {turn.end} tokens, max_length is {max_length}: "
        f"{turn.end - max_length} at the start of the prompt are cut so that the answer stays"
    )
    yield Note("PROMPT_CUT", "repaired", reason, shown)


def _masked(layout: Layout, longest: list[TrainedTurn], max_length: int) -> TrainedTurn | None:
    """The turn that a sequence would have no label of: the first one of the whole, else one of its own sequence."""
    candidates = layout.turns[:1] if layout.whole is not None else longest
    return next((turn for turn in candidates if turn.start >= max_length), None)
