"""Conversations of a general set, from the usual forms of a JSON Lines file. The data room reads far more, repairs and
rejects; this is for sets that are clean and public, and refuses what it does not know."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tunewright.core.chat import Conversation, Message
from tunewright.core.errors import ConfigError
from tunewright.evaluate.metrics.json_answers import loads

MOST_FAULTS = 5
FIX = 'each line is {"messages": [{"role": ..., "content": ...}]} or {"prompt": ..., "completion": ...}'
_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "observation": "tool"}
_PAIRS = (("prompt", "completion"), ("prompt", "response"), ("question", "answer"), ("instruction", "output"))


def read_conversations(path: Path, *, where: str) -> tuple[list[Conversation], int]:
    """(the rows of the file, how many more have no answer to learn). where: the option that names the file.

    Raises ConfigError for a file that is missing or not UTF-8, and one that names the lines of the first faults.
    """
    found: list[Conversation] = []
    faults: list[str] = []
    without = 0
    for number, line in enumerate(_text(path, where).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = conversation(loads(line), f"line {number}")
        except ValueError as error:
            faults.append(f"line {number}: {_sentence(error)}")
            continue
        if any(turn.trained for turn in row.messages):
            found.append(row)
        else:
            without += 1
    if faults:
        more = f"\nand {len(faults) - MOST_FAULTS} more" if len(faults) > MOST_FAULTS else ""
        raise ConfigError("\n".join(faults[:MOST_FAULTS]) + more, where=str(path), fix=FIX)
    if not found:
        raise ConfigError("the file has no row with an answer", where=str(path), fix=FIX)
    return found, without


def conversation(row: Any, id: str) -> Conversation:
    """The row as a conversation; a blank answer is context, not trained. Raises ValueError for a form that is not
    known."""
    if not isinstance(row, Mapping):
        raise ValueError("a row is an object")
    turns = next((row[key] for key in ("conversation", "messages", "conversations") if key in row), None)
    if turns is None:
        turns = _pair(row)
    if not isinstance(turns, list) or not turns:
        raise ValueError("the turns must be a list that is not empty")
    messages = tuple(_message(turn) for turn in turns)
    return Conversation(id=str(row.get("id", id)), messages=messages, metadata=row.get("metadata") or {})


def _pair(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    for asked, answered in _PAIRS:
        if asked in row and answered in row:
            prompt, answer = row[asked], row[answered]
            more = row.get("input") if asked == "instruction" else None
            if more:
                prompt = f"{prompt}\n{more}"
            questions = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
            answers = answer if isinstance(answer, list) else [{"role": "assistant", "content": answer}]
            return [*questions, *answers]
    raise ValueError(f"no turns and no prompt with an answer among the keys {', '.join(map(str, row)) or '(none)'}")


def _message(turn: Any) -> Message:
    if not isinstance(turn, Mapping):
        raise ValueError("a turn is an object with `role` and `content`")
    role = turn.get("role", turn.get("from"))
    content = turn.get("content", turn.get("value"))
    calls = tuple(turn.get("tool_calls") or ())
    if content is None and not calls:
        raise ValueError("a turn has no content")
    if isinstance(content, str) and any("\ud800" <= letter <= "\udfff" for letter in content):
        raise ValueError("a turn holds half of a surrogate pair, which is no character")
    is_blank = not calls and isinstance(content, str) and not content.strip()
    known = _ROLES.get(str(role), role)
    return Message(role=known, content=content, train=False if is_blank else None, tool_calls=calls)


def _text(path: Path, where: str) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(
            f"the general set {path} cannot be read: {error.strerror}",
            where=where,
            fix="name a JSON Lines file of conversations that have nothing to do with the project",
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"the file is not UTF-8 (byte {error.start})", where=str(path), fix=FIX) from None


def _sentence(error: ValueError) -> str:
    """One line: pydantic's own message has several."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}"
    if isinstance(error, json.JSONDecodeError):
        return f"this is not JSON: {error.msg} at character {error.pos + 1}"
    return str(error)
