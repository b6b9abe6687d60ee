"""Raw turns to typed messages."""

from __future__ import annotations

from itertools import takewhile, zip_longest
from typing import Any

from tunewright.core.chat import Message, Role
from tunewright.data.draft import Draft
from tunewright.data.findings import Note, Rejection, excerpt
from tunewright.data.formats.names import CALLERS, NATIVE, SHAREGPT, kind, role_name, role_of
from tunewright.data.formats.reasoning import same_as, with_reasoning
from tunewright.data.formats.turns import Text, Turn, tool_calls, turn_content
from tunewright.data.reading.strict_json import SourceNumber

_TURN_KEYS = {
    "role",
    "from",
    "content",
    "value",
    "train",
    "weight",
    "loss_weight",
    "tool_calls",
    "tool_call_id",
    "name",
}
_WEIGHTS = ("weight", "loss_weight")


def build_draft(
    turns: list[Any], metadata: dict[str, Any], *, is_sharegpt: bool, system: str, notes: tuple[Note, ...]
) -> Draft | Rejection:
    """The draft of a row. is_sharegpt: `human` and `gpt` are the format's own names of roles; system: a system text
    to put in front."""
    messages: list[Message] = []
    found = list(notes)
    for number, raw in enumerate(turns, start=1):
        turn = _turn(raw, number, is_sharegpt=is_sharegpt)
        if isinstance(turn, Rejection):
            return turn
        messages.append(turn.message)
        found += turn.notes
    if system.strip():
        messages.insert(0, Message(role="system", content=system))
    if any(message.tool_calls for message in messages):
        messages = _with_named_calls(messages)
    return Draft(tuple(messages), metadata, tuple(found))


def _turn(raw: Any, number: int, *, is_sharegpt: bool) -> Turn | Rejection:
    if not isinstance(raw, dict):
        return Rejection("TYPE", f"turn {number} is no object but {kind(raw)}", excerpt(str(raw)))
    named = role_name(raw)
    if named is None:
        return Rejection("UNKNOWN_ROLE", f"turn {number} has no role", excerpt(", ".join(raw)))
    role, notes = _role(named, number, is_sharegpt=is_sharegpt and "role" not in raw)
    if role is None:
        return Rejection("UNKNOWN_ROLE", f"turn {number} has the unknown role '{excerpt(str(named))}'")
    content = raw.get("content", raw.get("value"))
    is_call = str(named).strip().casefold() in CALLERS
    calls = tool_calls(content if is_call else raw.get("tool_calls"), number)
    if isinstance(calls, Rejection):
        return calls
    if is_call and not calls:
        return Rejection("TOOL_ARGS", f"the tool call of turn {number} is empty")
    text = Text(None) if is_call else turn_content(content, number, may_be_null=bool(calls))
    trained = _trained(raw, number)
    if isinstance(text, Rejection):
        return text
    if isinstance(trained, Rejection):
        return trained
    train, more = trained
    calls, used = (*calls, *text.calls), ""
    if role == "assistant":
        reasoned = with_reasoning(raw, text, number, is_call=bool(calls))
        if isinstance(reasoned, Rejection):
            return reasoned
        text, used = reasoned
    message = Message(role=role, content=text.text, train=train, tool_calls=calls)
    if role == "tool":
        message = message.model_copy(update=_answered(raw))
    known = _TURN_KEYS | {*same_as(raw, used)}
    return Turn(message, (*notes, *text.notes, *more, *_left_out(raw, number, known)))


def _answered(raw: dict[str, Any]) -> dict[str, str]:
    """Which call a tool's turn answers, and the tool's name, where the turn says so."""
    return {key: raw[key] for key in ("tool_call_id", "name") if type(raw.get(key)) is str and raw[key]}


def _with_named_calls(messages: list[Message]) -> list[Message]:
    """A call without an id gets the one that its result names, the first call that of the first result and so on."""
    done = list(messages)
    for index, message in enumerate(messages):
        if not message.tool_calls or all("id" in call for call in message.tool_calls):
            continue
        results = takewhile(lambda turn: turn.role == "tool", messages[index + 1 :])
        given = {call.get("id") for call in message.tool_calls}
        calls = []
        for call, named in zip_longest(message.tool_calls, (turn.tool_call_id for turn in results)):
            if call is not None:
                calls.append({**call, "id": named} if named and "id" not in call and named not in given else call)
                given.add(calls[-1].get("id"))
        done[index] = message.model_copy(update={"tool_calls": tuple(calls)})
    return done


def _role(named: Any, number: int, *, is_sharegpt: bool) -> tuple[Role | None, tuple[Note, ...]]:
    if not isinstance(named, str):
        return None, ()
    if named in NATIVE:
        return NATIVE[named], ()
    if is_sharegpt and named in SHAREGPT:
        return SHAREGPT[named], ()
    role = role_of(named)
    if role is None or (is_sharegpt and named in CALLERS):
        return role, ()
    return role, (Note("ROLE_ALIAS", "repaired", f"role '{excerpt(named)}' of turn {number} is read as {role}"),)


def _trained(raw: dict[str, Any], number: int) -> tuple[bool | None, tuple[Note, ...]] | Rejection:
    """`train`, or a weight of 0 or 1 (OpenAI's `weight`, LLaMA-Factory's `loss_weight`). None: by the role."""
    flag = raw.get("train")
    if isinstance(flag, bool):
        return flag, ()
    if flag is not None:
        return Rejection("TYPE", f"'train' of turn {number} must be true or false, not {excerpt(str(flag))}")
    name = next((name for name in _WEIGHTS if raw.get(name) is not None), None)
    if name is None:
        return None, ()
    weight = float(raw[name]) if isinstance(raw[name], SourceNumber | bool) else None
    if weight is None or weight < 0:
        return Rejection("TYPE", f"'{name}' of turn {number} must be 0 or 1, not {excerpt(str(raw[name]))}")
    if weight in (0, 1):
        return weight == 1, ()
    return True, (Note("TYPE", "repaired", f"'{name}' {raw[name]} of turn {number} is read as 1: it is trained"),)


def _left_out(raw: dict[str, Any], number: int, known: set[str]) -> tuple[Note, ...]:
    names = [name for name, value in raw.items() if name not in known and value not in (None, "", [], {})]
    if not names:
        return ()
    return (Note("EXTRA_KEY", "kept", f"turn {number} has keys that are not used: {excerpt(', '.join(names))}"),)
