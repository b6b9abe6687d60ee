"""The rating form: from fields to a judgement and back, and which fields are still missing."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

from tunewright.rating.study import DIMENSIONS, LEVELS, PREFERENCES, SIDES, SKIPPED, Judgement

LONGEST_NOTE = 2000
FIELDS = frozenset(
    ["preference", "note", *(f"{side}.{name}" for side in SIDES for name in (*DIMENSIONS, "correction"))]
)


def decoded(body: bytes) -> dict[str, str]:
    """The fields of an URL-encoded form, the last of a name. Raises ValueError for bytes that are not UTF-8."""
    text = body.decode("ascii")
    return dict(parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=50))


def fields_of(form: Mapping[str, str]) -> dict[str, str]:
    """The fields of the rating itself, with line feeds alone between lines as they were before the browser's."""
    return {name: value.replace("\r\n", "\n") for name, value in form.items() if name in FIELDS}


def missing(form: Mapping[str, str]) -> list[str]:
    """Names of the questions without a valid answer, in the order of the page; none for a skipped task."""
    if form.get("preference") == SKIPPED:
        return []
    levels = [f"{side}.{name}" for side in SIDES for name in DIMENSIONS]
    open_levels = [name for name in levels if form.get(name) not in _CODES]
    return open_levels + ([] if form.get("preference") in PREFERENCES else ["preference"])


_CODES = tuple(str(level) for level in range(len(LEVELS)))


def judgement(form: Mapping[str, str], answers: Mapping[str, str]) -> Judgement:
    """What a complete form says. answers: by side, as they were shown; a correction equal to its answer is none.

    A skipped task keeps its note and nothing else.
    """
    assert not missing(form), "an incomplete form is shown again, not saved"
    note = form.get("note", "").strip()[:LONGEST_NOTE]
    if form["preference"] == SKIPPED:
        return Judgement(SKIPPED, note=note)
    levels: dict[str, dict[str, int]] = {
        side: {name: int(form[f"{side}.{name}"]) for name in DIMENSIONS} for side in SIDES
    }
    given = {side: form.get(f"{side}.correction", "").strip() for side in SIDES}
    corrections: dict[str, str] = {
        side: text for side, text in given.items() if text and text != answers[side].replace("\r\n", "\n").strip()
    }
    return Judgement(form["preference"], levels, note, corrections)


def as_form(said: Judgement) -> dict[str, str]:
    """The fields that say `said`; a skip leaves the preference open."""
    form = {f"{side}.{name}": str(level) for side, given in said.levels.items() for name, level in given.items()}
    form |= {f"{side}.correction": text for side, text in said.corrections.items()}
    return form | {"note": said.note} | ({} if said.preference == SKIPPED else {"preference": said.preference})
