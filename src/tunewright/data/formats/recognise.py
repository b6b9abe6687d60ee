"""From a parsed row to its parts: which row format it has, its turns, and its metadata. Each row by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tunewright.data.draft import Draft
from tunewright.data.findings import Note, Rejection, excerpt
from tunewright.data.formats.build import build_draft
from tunewright.data.formats.found import Found, list_in
from tunewright.data.formats.names import MEDIA, TURN_KEYS, kind, role_name
from tunewright.data.formats.pairs import alpaca, prompt_completion, question_answer
from tunewright.data.formats.preference import dpo, judged
from tunewright.data.reading.strict_json import Parsed, parse, plain

_SYSTEMS = ("system", "system_prompt")


@dataclass(frozen=True, slots=True)
class Recognised:
    """The parts of a row. turns: as they stand in the source; key: under which name they were found; system: a system
    text beside the turns, as ShareGPT and Anthropic rows have it; format: conversation, messages, conversations,
    alpaca, prompt_completion, question_answer, dpo or kto."""

    turns: list[Any]
    metadata: dict[str, Any]
    key: str
    system: str = ""
    notes: tuple[Note, ...] = ()
    format: str = ""


def recognise(value: Any) -> Recognised | Rejection:
    """Finds the format, the turns and the metadata. Other keys of the row join the metadata: nothing is lost."""
    value, opened = _opened(value)
    if not isinstance(value, dict):
        return Rejection("MISSING", f"a row must be an object, not {kind(value)}", excerpt(str(value)))
    media = next((name for name in MEDIA if value.get(name)), None)
    if media:
        return Rejection("PARTS", f"the row has '{media}', which needs a multimodal recipe", excerpt(str(value[media])))
    found = _find(value)
    if isinstance(found, Rejection):
        return found
    rest = {name: item for name, item in value.items() if name not in found.used}
    system = _pop_system(rest, found)
    metadata, notes = _metadata(rest, found.extra)
    return Recognised(found.turns, metadata, found.key, system, (*opened, *found.notes, *notes), found.format)


def _opened(value: Any) -> tuple[Any, tuple[Note, ...]]:
    """The object inside a row that is one text."""
    if type(value) is str and value.lstrip().startswith("{") and isinstance(inner := parse(value, line=1), Parsed):
        note = Note("NESTED_JSON", "repaired", "the row was JSON inside a text", excerpt(value))
        return inner.value, (note, *inner.notes)
    return value, ()


def _find(row: dict[str, Any]) -> Found | Rejection:
    for reader in (dpo, _listed, alpaca, prompt_completion, question_answer):
        found = reader(row)
        if isinstance(found, Found):
            return judged(row, found)
        if found is not None:
            return found
    names = ", ".join(list(row)[:5]) or "none"
    if type(row.get("text")) is str:
        reason = f"the row has a text but no turns and no answer: it is no conversation (found: {names})"
        return Rejection("MISSING", reason, excerpt(row["text"]))
    wanted = "no conversation, messages or conversations, and no question with its answer"
    return Rejection("MISSING", f"{wanted} (found: {excerpt(names)})")


def _listed(row: dict[str, Any]) -> Found | Rejection | None:
    key = next((key for key in TURN_KEYS if row.get(key) is not None), None)
    if key is None:
        return None
    turns, notes = list_in(row[key], "turns")
    if turns is None:
        return Rejection("MISSING", f"'{key}' is no list of turns but {kind(row[key])}", excerpt(str(row[key])))
    return Found(key, turns, frozenset({key}), key, notes) if turns else Rejection("MISSING", f"'{key}' has no turns")


def _pop_system(rest: dict[str, Any], found: Found) -> str:
    """In our own format `system` is a name like any other."""
    name = next((name for name in _SYSTEMS if type(rest.get(name)) is str), None)
    if name is None or found.format == "conversation" or (found.turns and role_name(found.turns[0]) == "system"):
        return ""
    return str(rest.pop(name))


def _metadata(rest: dict[str, Any], extra: dict[str, Any]) -> tuple[dict[str, Any], tuple[Note, ...]]:
    own = rest.pop("metadata", None)
    notes: tuple[Note, ...] = ()
    if type(own) is str and own.lstrip().startswith("{") and isinstance(inner := parse(own, line=1), Parsed):
        own = inner.value
        notes += (Note("NESTED_JSON", "repaired", "the metadata was JSON inside a text"), *inner.notes)
    if own is not None and not isinstance(own, dict):
        notes += (Note("TYPE", "repaired", f"metadata was {kind(own)}; kept as metadata.metadata"),)
        own = {"metadata": own}
    metadata, lost = plain({**rest, **extra, **(own or {})})
    if lost:
        notes += (Note("NON_FINITE", "repaired", f"{lost} NaN or infinite number(s) in metadata became null"),)
    return metadata, (*notes, *_open_tools(metadata))


def _open_tools(metadata: dict[str, Any]) -> tuple[Note, ...]:
    """The tools of a row as a list of objects; ShareGPT and Glaive rows have them as JSON inside a text."""
    text = metadata.get("tools")
    if type(text) is not str or not text.strip():
        return ()
    inner = parse(text, line=1)
    tools = inner.value if isinstance(inner, Parsed) else None
    tools = [tools] if isinstance(tools, dict) else tools
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        return (Note("TOOL_ARGS", "kept", "the tools of the row are no JSON list of objects and stay a text"),)
    metadata["tools"], lost = plain(tools)
    reason = f"{lost} NaN or infinite number(s) in the tools became null"
    return (Note("NON_FINITE", "repaired", reason),) if lost else ()


def build(found: Recognised) -> Draft | Rejection:
    """Types every turn: role, text, train flag, tool calls. The first turn that cannot be typed rejects the row."""
    draft = build_draft(
        found.turns, found.metadata, is_sharegpt=found.key == "conversations", system=found.system, notes=found.notes
    )
    return draft
