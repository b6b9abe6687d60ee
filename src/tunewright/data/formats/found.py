"""What a reader of one row format found in a row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tunewright.data.findings import Note, Rejection, excerpt
from tunewright.data.formats.names import is_answer, kind
from tunewright.data.reading.strict_json import Parsed, parse


@dataclass(frozen=True, slots=True)
class Found:
    """format: its name; turns: raw; used: keys of the row that are no metadata; key: where turns came from.

    extra: values for the metadata that are not there under the same name.
    """

    format: str
    turns: list[Any]
    used: frozenset[str]
    key: str = ""
    notes: tuple[Note, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)


def pair(question: Any, answer: Any) -> list[dict[str, Any]]:
    """Two raw turns."""
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def list_in(value: Any, name: str) -> tuple[list[Any] | None, tuple[Note, ...]]:
    """A list, also where it is JSON inside a text; None for anything else."""
    if isinstance(value, list):
        return value, ()
    if type(value) is str and value.lstrip().startswith("["):
        inner = parse(value, line=1)
        if isinstance(inner, Parsed) and isinstance(inner.value, list):
            note = Note("NESTED_JSON", "repaired", f"the {name} were JSON inside a text", excerpt(value))
            return inner.value, (note, *inner.notes)
    return None, ()


def as_context(turns: list[Any]) -> list[Any]:
    """The turns of a prompt: the assistant's are not trained, unless they say so themselves."""
    return [{**turn, "train": False} if is_answer(turn) and turn.get("train") is None else turn for turn in turns]


def history_turns(row: dict[str, Any]) -> tuple[list[Any], tuple[Note, ...]] | Rejection:
    """Earlier turns in `history`: pairs of question and answer, or turns."""
    value = row.get("history")
    if value is None or value == "":
        return [], ()
    items, notes = list_in(value, "earlier turns")
    if items is None:
        return Rejection("TYPE", f"'history' is no list of earlier turns but {kind(value)}", excerpt(str(value)))
    turns: list[Any] = []
    for place, item in enumerate(items, start=1):
        if isinstance(item, list) and len(item) == 2:
            turns += pair(*item)
        elif isinstance(item, dict):
            turns.append(item)
        else:
            reason = f"item {place} of 'history' is no pair of question and answer"
            return Rejection("TYPE", reason, excerpt(str(item)))
    return turns, notes
