"""What is compared when conversations are looked at for near duplicates: character 5-grams of the bare text."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from tunewright.core.chat import Conversation, Message

GRAM = 5
"""Characters of a gram (Lee et al. 2022 use tokens; characters need no word borders, so Chinese is compared too)."""
_DROPPED = ("P", "Z", "C")


_CASELESS = bytes(range(256)).lower()
_DELETED = bytes(code for code in range(128) if unicodedata.category(chr(code))[0] in _DROPPED)


class _Strip(dict[int, int | None]):
    """For str.translate: punctuation, separators and controls are deleted; filled as code points are met."""

    def __missing__(self, point: int) -> int | None:
        kept = None if unicodedata.category(chr(point))[0] in _DROPPED else point
        self[point] = kept
        return kept


_STRIP = _Strip()


def comparable(text: str) -> str:
    """`text` in NFKC, case folded, without punctuation, whitespace and control characters. Symbols stay (+, ¥)."""
    if text.isascii():  # composed already; nothing but case and what is dropped can differ
        return text.encode().translate(_CASELESS, _DELETED).decode()
    return folded_and_stripped(text)


def folded_and_stripped(text: str) -> str:
    """`comparable` for texts of any script."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    if not folded.isascii():  # folding may open what NFKC then composes otherwise
        folded = unicodedata.normalize("NFKC", folded)
    return folded.translate(_STRIP)


def conversation_text(conversation: Conversation) -> str:
    """The turns of a conversation without its system turns, one below the other; tool calls as JSON."""
    return "\n".join(_turn_text(turn) for turn in conversation.messages if turn.role != "system")


def row_text(turns: Sequence[Mapping[str, Any]]) -> str:
    """`conversation_text` of the turns of a sealed row."""
    texts = []
    for turn in turns:
        if turn["role"] != "system":
            text, calls = turn["content"] or "", turn.get("tool_calls")
            texts.append(text + _calls_text(calls) if calls else text)
    return "\n".join(texts)


def _calls_text(calls: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps(calls, ensure_ascii=False, sort_keys=True)


def _turn_text(turn: Message) -> str:
    return (turn.content or "") + (_calls_text(turn.tool_calls) if turn.tool_calls else "")


def grams(bare: str) -> frozenset[str]:
    """The distinct 5-grams of a text that went through `comparable`; a shorter text is one gram, an empty one none."""
    if len(bare) <= GRAM:
        return frozenset([bare]) if bare else frozenset()
    return frozenset(bare[start : start + GRAM] for start in range(len(bare) - GRAM + 1))


def jaccard(left: frozenset[Any], right: frozenset[Any]) -> float:
    """Shared grams over all grams, 0..1; 0 where there is nothing to compare."""
    shared = len(left & right)
    return shared / (len(left) + len(right) - shared) if shared else 0.0
