"""Reasoning beside the content of an answer: `reasoning_content` of DeepSeek and Qwen, `reasoning` of newer servers,
`thinking` of Ollama and gpt-oss. It becomes a `<think>` block in front of the answer, which is how Qwen3 and
DeepSeek-R1 write it; templates with a key for it get it there (models/turn_form.py)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tunewright.data.findings import Note, Rejection, excerpt
from tunewright.data.formats.turns import Text, think_block

KEYS = ("reasoning_content", "reasoning", "thinking")
_MARKS = ("<think>", "</think>")


def with_reasoning(raw: dict[str, Any], text: Text, number: int, *, is_call: bool) -> tuple[Text, str] | Rejection:
    """(the answer's text with its reasoning in front, the key it was taken from). The key is empty where there is no
    reasoning, or where it cannot be used: no answer follows it, or the content has a block already.

    is_call: whether tool calls stand beside the text, which reasoning may lead to as well as to an answer.
    """
    name = next((key for key in KEYS if type(raw.get(key)) is str and raw[key].strip()), "")
    answer = text.text or ""
    if not name or not (answer.strip() or is_call) or answer.lstrip().startswith(_MARKS[0]):
        return text, ""
    reasoning = _bare(raw[name])
    if any(mark in reasoning for mark in _MARKS):
        reason = f"the '{name}' of turn {number} holds marks of reasoning itself, so its end could not be told"
        return Rejection("THINK_BLOCK", reason, excerpt(reasoning, _first(reasoning)))
    note = Note(
        "THINK_BLOCK", "repaired", f"the '{name}' of turn {number} stands in front of its answer", excerpt(reasoning)
    )
    return Text(think_block(reasoning) + answer, (*text.notes, note), text.calls), name


def same_as(raw: dict[str, Any], used: str) -> Iterable[str]:
    """Other keys that hold the same reasoning: some servers send it under two names."""
    return [key for key in KEYS if used and raw.get(key) == raw[used]]


def _bare(reasoning: str) -> str:
    """Without the marks that some exports leave around it, and without blank lines at its ends."""
    return reasoning.strip().removeprefix(_MARKS[0]).removesuffix(_MARKS[1]).strip()


def _first(text: str) -> int:
    return min(place for mark in _MARKS if (place := text.find(mark)) >= 0)
