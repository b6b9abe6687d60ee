"""What some templates want of a turn beside role and content: reasoning under a key of its own, ids of tool calls.

Both are asked of the template itself, by rendering. What no template asks for is left as it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from tunewright.models.controls import own_reasoning

Attempt = Callable[[Sequence[Mapping[str, Any]]], str]
"""Renders turns; an empty text where the template refuses them."""
REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
"""Qwen3, GLM and Kimi use the first, newer servers and their templates the second, gpt-oss the third."""
_ID_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_SIZE = 9
"""Mistral's templates refuse ids of any other length; other templates take any."""
_ASK: dict[str, Any] = {"role": "user", "content": "hi"}


class TurnForm:
    """The wishes of one template, asked for when a conversation first needs them. attempt: see Attempt."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt

    def applied(self, turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The turns as the template wants them; most have a role and a content and stay as they are."""
        if any("<think>" in (turn["content"] or "") for turn in turns) and self.reasoning_key:
            turns = [with_reasoning_key(turn, self.reasoning_key) for turn in turns]
        if any("tool_calls" in turn or turn["role"] == "tool" for turn in turns) and self.needs_call_ids:
            return with_call_ids(turns)
        return turns

    @cached_property
    def reasoning_key(self) -> str:
        """Under which key of an answer the template shows reasoning; empty where it takes it inside the content."""
        answers = ((key, {"role": "assistant", "content": "a1n2s3", key: "r1s2n3"}) for key in REASONING_KEYS)
        return next((key for key, answer in answers if "r1s2n3" in self._attempt([_ASK, answer])), "")

    @cached_property
    def needs_call_ids(self) -> bool:
        """Whether the template refuses tool calls without an id, or tool turns that name none, and takes them with
        one. Asked with the arguments as an object and as text, since a template may refuse either."""
        forms: tuple[Any, ...] = ({}, "{}")
        for arguments in forms:
            call = {"type": "function", "function": {"name": "f1n2", "arguments": arguments}}
            asked: dict[str, Any] = {"role": "assistant", "content": "", "tool_calls": [call]}
            turns: list[dict[str, Any]] = [_ASK, asked, {"role": "tool", "content": "1"}]
            for bare in (turns[:2], turns):
                if not self._attempt(bare) and self._attempt(with_call_ids(bare)):
                    return True
        return False


def with_reasoning_key(turn: dict[str, Any], key: str) -> dict[str, Any]:
    """The turn with the reasoning block of its content under `key`; unchanged without a key or a block.

    Blank lines around both parts are left out, as the templates of this family do themselves.
    """
    size = own_reasoning(turn) if key else 0
    if not size:
        return turn
    block, answer = turn["content"][:size].strip(), turn["content"][size:]
    inner = block.removeprefix("<think>").removesuffix("</think>")
    return {**turn, "content": answer.lstrip("\n"), key: inner.strip("\n")}


def with_call_ids(turns: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Ids where a call has none, and on tool turns that name no call: the calls' own, in their order.

    A made id depends on the call and its place alone, so that it is the same in every rendering of a conversation.
    """
    done: list[dict[str, Any]] = []
    open_ids: list[str] = []
    for index, turn in enumerate(turns):
        if turn.get("tool_calls"):
            calls = [
                call if call.get("id") else {**call, "id": made_id(index, place, call.get("function"))}
                for place, call in enumerate(turn["tool_calls"])
            ]
            open_ids = [str(call["id"]) for call in calls]
            done.append({**turn, "tool_calls": calls})
        elif turn["role"] == "tool":
            named = turn.get("tool_call_id") or (open_ids[0] if open_ids else made_id(index, 0, None))
            open_ids = [one for one in open_ids if one != named]
            done.append({**turn, "tool_call_id": named})
        else:
            done.append(dict(turn))
    return done


def made_id(turn: int, place: int, function: Any) -> str:
    """An id of nine letters and digits from what the call says and where it stands."""
    said = json.dumps([turn, place, function], sort_keys=True, ensure_ascii=False)
    number = int.from_bytes(hashlib.sha256(said.encode()).digest()[:8], "big")
    letters = ""
    for _ in range(_ID_SIZE):
        number, letter = divmod(number, len(_ID_LETTERS))
        letters += _ID_LETTERS[letter]
    return letters
