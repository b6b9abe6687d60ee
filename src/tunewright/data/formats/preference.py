"""Rows made for preference training, read for supervised training: the answer that was preferred."""

from __future__ import annotations

from typing import Any

from tunewright.data.findings import Note, Rejection, excerpt
from tunewright.data.formats.found import Found, as_context, list_in
from tunewright.data.formats.names import QUESTIONS, TURN_KEYS, find_column, is_answer, kind, role_name
from tunewright.data.formats.pairs import instruction_turns, prompt_turns

_NAMES = (("chosen", "rejected"), ("chosen_messages", "rejected_messages"))
_LABELS = ("label", "kto_tag")


def dpo(row: dict[str, Any]) -> Found | Rejection | None:
    """`chosen` and `rejected`, each a text, a turn, or a list of turns that may begin with the question."""
    names = next((pair for pair in _NAMES if row.get(pair[0]) is not None and pair[1] in row), None)
    if names is None:
        return None
    chosen, rejected = names
    answer = _answer(row[chosen])
    if answer is None:
        return Rejection("TYPE", f"'{chosen}' is no answer but {kind(row[chosen])}", excerpt(str(row[chosen])))
    asked = Found("dpo", [], frozenset()) if not is_answer(answer[0]) else _asked(row)
    if isinstance(asked, Rejection):
        return asked
    note = Note("PREFERENCE", "kept", f"trained on '{chosen}'; '{rejected}' is kept as metadata.rejected")
    turns = [*asked.turns, *(answer if asked.turns else _last_trained(answer))]
    key = "conversations" if "from" in answer[0] else asked.key
    extra = {"rejected": row[rejected]}
    return Found("dpo", turns, asked.used | {chosen, rejected}, key, (*asked.notes, note), extra)


def _answer(value: Any) -> list[Any] | None:
    if type(value) is str and not value.lstrip().startswith("["):
        return [{"role": "assistant", "content": value}]
    items, _ = list_in(value, "turns")
    items = [value] if isinstance(value, dict) else items
    if items and all(role_name(item) is not None for item in items):
        return items
    return [{"role": "assistant", "content": value}] if type(value) is str else None


def _last_trained(turns: list[Any]) -> list[Any]:
    """A whole conversation: what stands before the last turn is context."""
    return [*as_context(turns[:-1]), turns[-1]]


def _asked(row: dict[str, Any]) -> Found | Rejection:
    key = next((name for name in TURN_KEYS if row.get(name) is not None), None)
    if key is not None:
        items, notes = list_in(row[key], "turns")
        if items is None:
            return Rejection("MISSING", f"'{key}' is no list of turns but {kind(row[key])}", excerpt(str(row[key])))
        return Found("dpo", as_context(items), frozenset({key}), key, notes)
    if row.get("instruction") is not None:
        return instruction_turns(row)
    name = find_column(row, QUESTIONS)
    if name is not None:
        return prompt_turns(row, name)
    return Rejection("MISSING", f"the row has a chosen answer but no question (found: {', '.join(list(row)[:5])})")


def judged(row: dict[str, Any], found: Found) -> Found | Rejection:
    """A row of KTO: a `label` of true or false beside an answer. false: this is how not to answer."""
    name = next((name for name in _LABELS if type(row.get(name)) is bool), None)
    if name is None or found.format == "dpo":
        return found
    if not row[name]:
        reason = f"'{name}' is false: the answer is an example of how not to answer"
        return Rejection("UNDESIRED", reason, excerpt(str(found.turns[-1])))
    return Found("kto", found.turns, found.used, found.key, found.notes, found.extra)
