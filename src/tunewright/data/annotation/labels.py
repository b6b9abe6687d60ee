"""The labels of a row in the forms that annotation tools write."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tunewright.data.findings import Note

CODE = "LABELS"
_PAIR = {"annotator", "label"}


class BadLabels(ValueError):
    """Labels that agreement cannot be computed from; the text says why, without the label's own text beyond a name."""


def labels_of(value: Any, categories: Sequence[str] = ()) -> dict[str, str]:
    """Annotator -> label. value: an object from annotator to label, a list of {annotator, label}, or a plain list
    (annotators are '1', '2' ...); null or an empty text is a label that was not given. Absent labels (None): {}.

    Raises BadLabels for other forms, an annotator who is named twice, and a label that is not among `categories`.
    """
    if value is None:
        return {}
    if isinstance(value, Mapping):
        pairs = _of_mapping(value)
    elif isinstance(value, list | tuple):
        pairs = _of_list(value)
    else:
        raise BadLabels(f"labels are {_kind(value)}, not an object from annotator to label or a list")
    found: dict[str, str] = {}
    for annotator, label in pairs:
        text = _text(label, annotator)
        if not text:
            continue
        if annotator in found:
            raise BadLabels(f"annotator '{annotator}' is named twice")
        if categories and text not in categories:
            raise BadLabels(f"annotator '{annotator}' gave a label that is not among annotation.categories: '{text}'")
        found[annotator] = text
    return found


def label_notes(value: Any, categories: Sequence[str] = ()) -> tuple[Note, ...]:
    """What is wrong with a row's labels, as a note with code LABELS and action kept; nothing for good or no labels."""
    try:
        labels_of(value, categories)
    except BadLabels as fault:
        return (Note(CODE, "kept", f"the row is left out of the agreement: {fault}"),)
    return ()


def _of_mapping(value: Mapping[Any, Any]) -> list[tuple[str, Any]]:
    if set(value) == _PAIR:
        raise BadLabels("labels are one object {annotator, label}, not a list of them")
    return [(str(annotator), label) for annotator, label in value.items()]


def _of_list(value: Sequence[Any]) -> list[tuple[str, Any]]:
    are_pairs = [isinstance(item, Mapping) for item in value]
    if not any(are_pairs):
        return [(str(position), label) for position, label in enumerate(value, start=1)]
    if not all(are_pairs):
        raise BadLabels("the list mixes objects and plain labels")
    for position, item in enumerate(value, start=1):
        if missing := sorted(_PAIR - set(item)):
            raise BadLabels(f"entry {position} of the list has no key '{missing[0]}'")
        if not _text(item["annotator"], f"entry {position}"):
            raise BadLabels(f"entry {position} of the list names no annotator")
    return [(_text(item["annotator"], "an entry"), item["label"]) for item in value]


def _text(value: Any, annotator: str) -> str:
    """A label as text: 2 and 2.0 are '2', true is 'true'; '' where none was given."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, int | str):
        return str(value).strip()
    raise BadLabels(f"the label of '{annotator}' is {_kind(value)}; one label an annotator is needed")


def _kind(value: Any) -> str:
    kinds = {
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    return kinds.get(type(value), "no label")
