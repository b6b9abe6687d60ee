"""What is compared when conversations are looked at for near duplicates: character 5-grams of the bare text."""

from __future__ import annotations

import json
import unicodedata

from tunewright.core.chat import Conversation, Message

GRAM = 5
"""Characters of a gram (Lee et al. 2022 use tokens; characters need no word borders, so Chinese is compared too)."""
_DROPPED = ("P", "Z", "C")


class _Strip(dict[int, int | None]):
    """For str.translate: punctuation, separators and controls are deleted; filled as code points are met."""

    def __missing__(self, point: int) -> int | None:
        kept = None if unicodedata.category(chr(point))[0] in _DROPPED else point
        self[point] = kept
        return kept


_STRIP = _Strip()


def comparable(text: str) -> str:
    """`text` in NFKC, case folded, without punctuation, whitespace and control characters. Symbols stay (+, ¥)."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    if not folded.isascii():  # folding may open what NFKC then composes otherwise
        folded = unicodedata.normalize("NFKC", folded)
    return folded.translate(_STRIP)


def conversation_text(conversation: Conversation) -> str:
    """The turns of a conversation without its system turns, one below the other; tool calls as JSON."""
    return "\n".join(_turn_text(turn) for turn in conversation.messages if turn.role != "system")


def _turn_text(turn: Message) -> str:
    calls = json.dumps(turn.tool_calls, ensure_ascii=False, sort_keys=True) if turn.tool_calls else ""
    return (turn.content or "") + calls


def grams(bare: str) -> frozenset[str]:
    """The distinct 5-grams of a text that went through `comparable`; a shorter text is one gram, an empty one none."""
    if len(bare) <= GRAM:
        return frozenset([bare]) if bare else frozenset()
    return frozenset(bare[start : start + GRAM] for start in range(len(bare) - GRAM + 1))


def jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    """Shared grams over all grams, 0..1; 0 where there is nothing to compare."""
    shared = len(left & right)
    return shared / (len(left) + len(right) - shared) if shared else 0.0
