"""Content that plays other turns: a model trained on it learns to speak for the user, or to obey a forged system turn.

Plain text markers count at the start of a line only (`User:`, `客服：`, `### Instruction:`): "the user: ..." inside a
sentence is prose. Control markers of chat templates count anywhere. Names that also open lines of ordinary prose
("AI: ...", "系统：iOS 17") count when a second marker stands in the same turn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tunewright.data.draft import Draft
from tunewright.data.findings import Note, Rejection, excerpt
from tunewright.data.rules.options import ForgedTurnsOptions

_STRONG = "user|assistant|human|system|chatgpt|chatbot|用户|客服|助手|助理|顾客|客户|机器人|人类"
_WEAK = "ai|bot|gpt|model|agent|customer|doctor|patient|系统|坐席|医生|患者|病人|学生|老师|问|答"
_SPEAKER = re.compile(
    rf"^[ \t>*_#\-\u3000]{{0,6}}(?P<name>(?P<strong>{_STRONG})|{_WEAK})[ \t*_]{{0,3}}[:：]",
    re.IGNORECASE | re.MULTILINE,
)
_HEADING = re.compile(
    r"^#{2,4} ?(?:instruction|response|input|output|指令|回答|输入|输出)s? ?[:：]", re.IGNORECASE | re.MULTILINE
)
_CONTROL = re.compile(
    r"<\|[A-Za-z][A-Za-z0-9_]{1,40}\|>|<｜[^｜<>\n]{1,40}｜>|\[/?INST\]|<</?SYS>>|</?(?:start|end)_of_turn>"
    r"|\[/?(?:AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|SYSTEM_PROMPT)\]|\[gMASK\]|<reserved_\d+>"
)
_LINE_HINTS = (":", "：")
_CONTROL_HINTS = (
    "<|",
    "<｜",
    "INST]",
    "SYS>>",
    "_of_turn>",
    "[AVAILABLE_TOOLS",
    "[TOOL_",
    "[SYSTEM_PROMPT",
    "[gMASK]",
    "<reserved_",
)


@dataclass(frozen=True, slots=True)
class Forged:
    """A marker and where it stands, in characters."""

    marker: str
    start: int


_SIGNS = ("<", "]", ":", "：", ">")
"""One of these stands in every hint."""


def find_forged(text: str, *, fast: bool = True) -> list[Forged]:
    """The markers in `text`, in order. fast: a text without their signs ends here; False looks for all hints."""
    if fast:
        for sign in _SIGNS:
            if sign in text:
                break
        else:
            return []
    found: list[Forged] = []
    if any(hint in text for hint in _CONTROL_HINTS):
        found += [Forged(match[0], match.start()) for match in _CONTROL.finditer(text)]
    if any(hint in text for hint in _LINE_HINTS):
        speakers = list(_SPEAKER.finditer(text))
        names = {match["name"].casefold() for match in speakers}
        counted = [match for match in speakers if match["strong"] or len(names) > 1]
        found += [Forged(match[0].strip(), match.start()) for match in (*counted, *_HEADING.finditer(text))]
    return sorted(found, key=lambda forged: forged.start)


class ForgedTurns:
    """The rule `forged_turns`."""

    def __init__(self, options: ForgedTurnsOptions) -> None:
        self.options = options
        self._own: Callable[[str], Sequence[str]] = lambda text: ()

    def knowing(self, control_texts_in: Callable[[str], Sequence[str]]) -> ForgedTurns:
        """The rule for a model: markers that are its own control tokens are left to the token check (SPECIAL_TOKEN).

        control_texts_in: the control tokens that a text spells, as `ChatTokenizer.control_texts_in` finds them.
        """
        rule = ForgedTurns(self.options)
        rule._own = control_texts_in
        return rule

    def apply(self, draft: Draft) -> Draft | Rejection:
        """Names the first marker of each turn."""
        notes = []
        for number, turn in enumerate(draft.turns, start=1):
            text = turn.content or ""
            found = [forged for forged in find_forged(text) if not self._own(forged.marker)]
            if found:
                line = text.count("\n", 0, found[0].start) + 1
                reason = f"turn {number} plays another turn: '{found[0].marker}' in line {line}"
                notes.append(Note("FORGED_TURN", "kept", reason, excerpt(text, found[0].start)))
        if not notes:
            return draft
        if self.options.action == "quarantine":
            return Rejection(notes[0].code, notes[0].reason, notes[0].excerpt)
        return draft.noted(*notes).tallied({"forged_turns.turns": len(notes)})
