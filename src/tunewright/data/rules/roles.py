"""Turn order: what is merged, folded, cut or masked so that a conversation can be trained."""

from __future__ import annotations

from collections.abc import Sequence

from tunewright.core.chat import Message
from tunewright.data.draft import Draft
from tunewright.data.findings import Note, Rejection, excerpt
from tunewright.data.rules.options import RolesOptions
from tunewright.data.rules.text import is_visible


def is_blank(message: Message) -> bool:
    """Whether a turn says nothing: no visible character and no tool call."""
    return not message.tool_calls and not is_visible(message.content or "")


def check_targets(draft: Draft, *, fast: bool = True) -> Draft | Rejection:
    """An empty user turn or a row without a trained turn is rejected; an empty target is not trained.

    Holds for every row, whatever rules are configured: it runs once more after all of them. fast: a row with all it
    needs ends after one look.
    """
    if fast and _has_targets(draft.turns):
        return draft
    for number, turn in enumerate(draft.turns, start=1):
        if turn.role == "user" and is_blank(turn):
            return Rejection("EMPTY_INPUT", f"user turn {number} is empty")
    blank = [number for number, turn in enumerate(draft.turns, start=1) if turn.trained and is_blank(turn)]
    masked = [
        turn.model_copy(update={"train": False}) if number in blank else turn
        for number, turn in enumerate(draft.turns, start=1)
    ]
    if not any(turn.trained for turn in masked):
        return _nothing_to_train(draft, blank)
    if not blank:
        return draft
    return draft.changed(masked, Note("EMPTY_TARGET", "repaired", f"assistant turn {blank[0]} is empty, not trained"))


def _has_targets(turns: Sequence[Message]) -> bool:
    """Whether a turn is trained and neither it nor any question is blank."""
    is_trained = False
    for turn in turns:
        if turn.role == "user" or turn.trained:
            if is_blank(turn):
                return False
            is_trained |= turn.role == "assistant"
    return is_trained


def is_in_order(turns: Sequence[Message]) -> bool:
    """Whether questions and answers alternate, behind one system turn at most, up to an answer that is trained, and
    none is blank: such a row stays as it is."""
    start = 1 if turns and turns[0].role == "system" else 0
    if len(turns) - start < 2 or (len(turns) - start) % 2 or not turns[-1].trained:
        return False
    wanted = "user"
    for turn in turns[start:]:
        if turn.role != wanted or turn.tool_calls or not is_visible(turn.content or ""):
            return False
        wanted = "assistant" if wanted == "user" else "user"
    return not start or not is_blank(turns[0])


def _nothing_to_train(draft: Draft, blank: Sequence[int]) -> Rejection:
    if blank:
        return Rejection("EMPTY_TARGET", f"assistant turn {blank[0]} is empty and no other turn is trained")
    if not any(turn.role == "assistant" for turn in draft.turns):
        return Rejection("EMPTY_TARGET", "the row has no assistant turn", _first_words(draft.turns))
    return Rejection("ALL_MASKED", "no assistant turn of the row is trained", _first_words(draft.turns))


def _first_words(turns: Sequence[Message]) -> str:
    return excerpt(turns[0].content or "") if turns else ""


class Roles:
    """The rule `roles`."""

    def __init__(self, options: RolesOptions, *, fast: bool = True) -> None:
        """fast: a row that is in order ends after one look."""
        self.options, self._fast = options, fast

    def apply(self, draft: Draft) -> Draft | Rejection:
        """Empty turns are judged before merging, so that a merge never hides one."""
        if self._fast and is_in_order(draft.turns):
            return draft
        for number, turn in enumerate(draft.turns, start=1):
            if turn.role == "user" and is_blank(turn):
                return Rejection("EMPTY_INPUT", f"user turn {number} is empty")
        for step in (_drop_empty_system, _fold_late_system, _mask_first, _merge, _cut_dangling):
            draft = step(draft)
        return check_targets(draft)


def _drop_empty_system(draft: Draft) -> Draft:
    kept = [turn for turn in draft.turns if turn.role != "system" or not is_blank(turn)]
    if len(kept) == len(draft.turns):
        return draft
    return draft.changed(kept, Note("EMPTY_SYSTEM", "repaired", "empty system turn left out"))


def _fold_late_system(draft: Draft) -> Draft:
    """A system turn behind the start goes in front of the next user turn's text."""
    turns: list[Message] = []
    pending: list[str] = []
    notes: list[Note] = []
    for number, turn in enumerate(draft.turns, start=1):
        if turn.role == "system" and any(earlier.role != "system" for earlier in turns):
            pending.append(turn.content or "")
            shown = excerpt(turn.content or "")
            notes.append(Note("SYSTEM_MID", "repaired", f"system turn {number} folded into the next user turn", shown))
        elif turn.role == "user" and pending:
            turns.append(turn.model_copy(update={"content": "\n".join([*pending, turn.content or ""])}))
            pending = []
        else:
            turns.append(turn)
    if pending:
        notes.insert(
            0, Note("SYSTEM_MID", "repaired", "system turn with no user turn behind it cut", excerpt(pending[0]))
        )
    return draft.changed(turns, *notes) if notes else draft


def _merge(draft: Draft) -> Draft:
    """Neighbours of one role become one turn, joined by a line feed; tool turns and calls never do."""
    turns: list[Message] = []
    notes: list[Note] = []
    for number, turn in enumerate(draft.turns, start=1):
        last = turns[-1] if turns else None
        if last is None or last.role != turn.role or turn.role == "tool" or last.tool_calls or turn.tool_calls:
            turns.append(turn)
        elif turn.role == "assistant" and turn.trained != last.trained and not (is_blank(turn) or is_blank(last)):
            turns.append(turn)
            reason = f"assistant turns {number - 1} and {number} stay apart: only one of them is trained"
            notes.append(Note("SAME_ROLE", "kept", reason, excerpt(turn.content or "")))
        else:
            turns[-1] = _joined(last, turn)
            reason = f"{turn.role} turn {number} merged with the one before"
            notes.append(Note("SAME_ROLE", "repaired", reason, excerpt(turn.content or "")))
    return draft.changed(turns, *notes) if notes else draft


def _joined(first: Message, second: Message) -> Message:
    """An empty turn adds nothing, not even a line feed, and does not decide what is trained."""
    if is_blank(first) or is_blank(second):
        return second if is_blank(first) else first
    return first.model_copy(update={"content": f"{first.content}\n{second.content}"})


def _cut_dangling(draft: Draft) -> Draft:
    last = draft.turns[-1] if draft.turns else None
    if last is None or last.role != "user":
        return draft
    note = Note("DANGLING_USER", "repaired", "last user turn without an answer cut", excerpt(last.content or ""))
    return draft.changed(draft.turns[:-1], note)


def _mask_first(draft: Draft) -> Draft:
    """Assistant turns that answer nobody stay as context: pairs of question and answer never shift."""
    end = next((index for index, turn in enumerate(draft.turns) if turn.role == "user"), len(draft.turns))
    greetings = [turn for turn in draft.turns[:end] if turn.trained]
    if not greetings:
        return draft
    opening = [turn.model_copy(update={"train": False}) if turn.trained else turn for turn in draft.turns[:end]]
    shown = excerpt(greetings[0].content or "")
    note = Note("FIRST_ASSISTANT", "kept", "first turn by the assistant: context, not trained", shown)
    return draft.changed([*opening, *draft.turns[end:]], note)
