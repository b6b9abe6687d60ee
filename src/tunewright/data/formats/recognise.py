"""From a parsed row to a draft: the usual names for the list of turns, for roles and for content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tunewright.core.chat import Message, Role
from tunewright.data.draft import Draft
from tunewright.data.findings import Note, Rejection, excerpt
from tunewright.data.formats.turns import Text, Turn, tool_calls, turn_content
from tunewright.data.reading.strict_json import NonFinite, Parsed, SourceNumber, parse, plain

KEYS = ("conversation", "messages", "conversations")
"""Our own key, OpenAI's and ShareGPT's."""
NATIVE: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
SHAREGPT: dict[str, Role] = {"human": "user", "gpt": "assistant", "observation": "tool"}
_USER = "human prompter customer client patient student question 用户 客户 顾客 患者 病人 学生 问 提问者"
_ASSISTANT = "gpt chatgpt bot ai model agent doctor teacher tutor answer 助手 客服 机器人 坐席 医生 老师 答 回答者"
ALIASES: dict[str, Role] = {
    **dict.fromkeys(_USER.split(), "user"),
    **dict.fromkeys(_ASSISTANT.split(), "assistant"),
    **dict.fromkeys(["developer", "系统"], "system"),
    **dict.fromkeys(["observation", "function", "ipython", "tool_response", "工具"], "tool"),
}
CALLERS = ("function_call", "tool_call")
"""Roles whose content is a call: they become the assistant's tool_calls."""
_MEDIA = ("images", "image", "audios", "audio", "videos", "video")
"""Keys beside the turns whose files the text refers to; without them the text would be trained blind."""
_TURN_KEYS = {"role", "from", "content", "value", "train", "weight", "tool_calls", "tool_call_id", "name"}


@dataclass(frozen=True)
class Recognised:
    """The parts of a row. turns: as they stand in the source; key: under which name they were found; system: a system
    text beside the turns, as ShareGPT and Anthropic rows have it."""

    turns: list[Any]
    metadata: dict[str, Any]
    key: str
    system: str = ""
    notes: tuple[Note, ...] = ()


def recognise(value: Any) -> Recognised | Rejection:
    """Finds the list of turns and the metadata. Other keys of the row join the metadata: nothing is lost."""
    if not isinstance(value, dict):
        return Rejection("MISSING", f"a row must be an object, not {_kind(value)}", excerpt(str(value)))
    key = next((key for key in KEYS if value.get(key) is not None), None)
    if key is None:
        found = ", ".join(list(value)[:5]) or "none"
        return Rejection("MISSING", f"no key conversation, messages or conversations (found: {found})")
    turns, notes = _turn_list(value[key])
    if turns is None:
        return Rejection("MISSING", f"'{key}' is no list of turns but {_kind(value[key])}", excerpt(str(value[key])))
    if not turns:
        return Rejection("MISSING", f"'{key}' has no turns")
    media = next((name for name in _MEDIA if value.get(name)), None)
    if media:
        return Rejection("PARTS", f"the row has '{media}', which needs a multimodal recipe", excerpt(str(value[media])))
    rest = {name: item for name, item in value.items() if name != key}
    system = _pop_system(rest, turns) if key != "conversation" else ""
    metadata, more = _metadata(rest)
    return Recognised(turns, metadata, key, system, (*notes, *more))


def _pop_system(rest: dict[str, Any], turns: list[Any]) -> str:
    first = turns[0] if isinstance(turns[0], dict) else {}
    if type(rest.get("system")) is str and first.get("role", first.get("from")) != "system":
        return str(rest.pop("system"))
    return ""


def _turn_list(value: Any) -> tuple[list[Any] | None, tuple[Note, ...]]:
    if isinstance(value, list):
        return value, ()
    if type(value) is str and value.lstrip().startswith("["):
        inner = parse(value, line=1)
        if isinstance(inner, Parsed) and isinstance(inner.value, list):
            return inner.value, (Note("NESTED_JSON", "repaired", "the turns were JSON inside a text", excerpt(value)),)
    return None, ()


def _metadata(rest: dict[str, Any]) -> tuple[dict[str, Any], tuple[Note, ...]]:
    own = rest.pop("metadata", None)
    notes: tuple[Note, ...] = ()
    if own is not None and not isinstance(own, dict):
        notes += (Note("TYPE", "repaired", f"metadata was {_kind(own)}; kept as metadata.metadata"),)
        own = {"metadata": own}
    metadata, lost = plain({**rest, **(own or {})})
    if lost:
        notes += (Note("NON_FINITE", "repaired", f"{lost} NaN or infinite number(s) in metadata became null"),)
    return metadata, notes


def build(found: Recognised) -> Draft | Rejection:
    """Types every turn: role, text, train flag, tool calls. The first turn that cannot be typed rejects the row."""
    messages, notes = [], list(found.notes)
    for number, raw in enumerate(found.turns, start=1):
        turn = _turn(raw, number, found.key)
        if isinstance(turn, Rejection):
            return turn
        messages.append(turn.message)
        notes += turn.notes
    if found.system.strip():
        messages.insert(0, Message(role="system", content=found.system))
    return Draft(tuple(messages), found.metadata, tuple(notes))


def _turn(raw: Any, number: int, key: str) -> Turn | Rejection:
    if not isinstance(raw, dict):
        return Rejection("TYPE", f"turn {number} is no object but {_kind(raw)}", excerpt(str(raw)))
    named = raw.get("role", raw.get("from"))
    if named is None:
        return Rejection("UNKNOWN_ROLE", f"turn {number} has no role", excerpt(", ".join(raw)))
    role, notes = _role(named, number, is_sharegpt=key == "conversations" and "role" not in raw)
    if role is None:
        return Rejection("UNKNOWN_ROLE", f"turn {number} has the unknown role '{excerpt(str(named))}'")
    content = raw.get("content", raw.get("value"))
    is_call = str(named).strip().casefold() in CALLERS
    calls = tool_calls(content if is_call else raw.get("tool_calls"), number)
    text = Text(None) if is_call else turn_content(content, number, may_be_null=bool(calls))
    train = _train(raw, number)
    if isinstance(calls, Rejection) or isinstance(text, Rejection) or isinstance(train, Rejection):
        return next(part for part in (calls, text, train) if isinstance(part, Rejection))
    if is_call and not calls:
        return Rejection("TOOL_ARGS", f"the tool call of turn {number} is empty")
    message = Message(role=role, content=text.text, train=train, tool_calls=calls)
    return Turn(message, (*notes, *text.notes, *_left_out(raw, number)))


def _role(named: Any, number: int, *, is_sharegpt: bool) -> tuple[Role | None, tuple[Note, ...]]:
    if not isinstance(named, str):
        return None, ()
    if named in NATIVE:
        return NATIVE[named], ()
    if is_sharegpt and named in SHAREGPT:
        return SHAREGPT[named], ()
    bare = named.strip().casefold()
    role: Role | None = "assistant" if bare in CALLERS else NATIVE.get(bare, ALIASES.get(bare))
    if role is None or (is_sharegpt and bare in CALLERS):
        return role, ()
    return role, (Note("ROLE_ALIAS", "repaired", f"role '{excerpt(named)}' of turn {number} is read as {role}"),)


def _train(raw: dict[str, Any], number: int) -> bool | Rejection | None:
    """`train`, or OpenAI's `weight` of 0 or 1."""
    flag = raw.get("train")
    if flag is None and raw.get("weight") in ("0", "1"):
        return str(raw["weight"]) == "1"
    if flag is None or isinstance(flag, bool):
        return flag
    return Rejection("TYPE", f"'train' of turn {number} must be true or false, not {excerpt(str(flag))}")


def _left_out(raw: dict[str, Any], number: int) -> tuple[Note, ...]:
    names = [name for name, value in raw.items() if name not in _TURN_KEYS and value not in (None, "", [], {})]
    if not names:
        return ()
    return (Note("EXTRA_KEY", "kept", f"turn {number} has keys that are not used: {excerpt(', '.join(names))}"),)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {dict: "an object", list: "a list", bool: "true or false", SourceNumber: "a number", NonFinite: "NaN"}
    return names.get(type(value), "a text")
