"""Renderings without running the template: the fixed pieces around the contents, proven once for a row of roles.

Only for templates that `concatenative` proves to copy contents, and for turns that are a role and a text; everything
else is rendered by the template itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter

from tunewright.core.chat import Message
from tunewright.models.concatenative import is_concatenative
from tunewright.models.template import ChatTemplate, TemplateRefusal

_OPEN, _CLOSE = "\ue0f0", "\ue0f1"
_SLOT = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")
_ROLES = frozenset({"system", "user", "assistant"})
"""Tool turns have ids and forms of their own."""
_KEPT = 1024
_OPTIONAL = tuple(
    (name, field.default) for name, field in Message.model_fields.items() if not field.is_required() and name != "train"
)
"""What a turn may say beside role and content, and how it looks where it does not."""
_other = itemgetter(*(name for name, _ in _OPTIONAL))
_NOTHING = tuple(default for _, default in _OPTIONAL)
Pieces = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """The text of a row of roles. parts: text and control tokens in turns, as `pattern.split` of the text gives them;
    those with contents in them are empty there and stand in `open`: (number of the part, pieces and numbers of turns).
    """

    parts: list[str]
    open: tuple[tuple[int, Pieces], ...]
    runs: list[list[int]] = field(default_factory=list)
    """Ids in front of, between and behind the open parts; whoever encodes the frame keeps them here."""

    def filled(self, contents: Sequence[str]) -> list[str]:
        """The parts with the contents of the turns."""
        parts = self.parts.copy()
        for place, pieces in self.open:
            parts[place] = "".join([piece if type(piece) is str else contents[piece] for piece in pieces])  # type: ignore[index]
        return parts


@dataclass(slots=True)
class FramedTurns:
    """Turns that frames can hold."""

    roles: tuple[str, ...]
    contents: list[str]


@dataclass(frozen=True, slots=True)
class Junction:
    """Where an answer continues its prompt: own is the frame that ends with the answer, and its open part number
    `open` is the prompt's last part, `tail`, and the answer; all before it is the prompt's."""

    own: Frame
    open: int
    tail: str


class Frames:
    """The frames of one template. pattern: finds control tokens, captured; controls: their texts. `is_used = False`
    leaves every row to the template."""

    def __init__(self, template: ChatTemplate, controls: Sequence[str], pattern: re.Pattern[str]) -> None:
        self._template, self._pattern, self._controls = template, pattern, tuple(controls)
        self._heads = tuple(sorted({text[:size] for text in controls for size in range(1, len(text))}))
        self._tails = tuple(sorted({text[size:] for text in controls for size in range(1, len(text))}))
        self._openings = sorted({text[0] for text in controls} | {"<"})
        self.is_used = True
        self._known: dict[tuple[tuple[str, ...], bool], Frame | None] = {}
        self._junctions: dict[tuple[str, ...], Junction | None] = {}

    @cached_property
    def is_proven(self) -> bool:
        """Whether the template only copies contents."""
        return is_concatenative(self._template.syntax()) and not {_OPEN, _CLOSE} & set(self._template.source)

    def taken(self, messages: Sequence[Message]) -> FramedTurns | None:
        """The turns, where frames can hold them: each a role and a plain text without a control token, not empty,
        without white space around it. None where one is not of that kind, the template is not, or `is_used` is off."""
        if not self.is_used or not self.is_proven:
            return None
        roles: list[str] = []
        contents: list[str] = []
        for message in messages:
            values = message.__dict__
            role, content = values["role"], values["content"]
            if not content or role not in _ROLES or len(content.strip()) != len(content) or _other(values) != _NOTHING:
                return None
            for sign in self._openings:
                if sign in content and ("<think>" in content or self._pattern.search(content)):
                    return None
            roles.append(role)
            contents.append(content)
        return FramedTurns(tuple(roles), contents)

    def of(self, roles: tuple[str, ...], *, generation_prompt: bool) -> Frame | None:
        """The frame of turns with these roles; None where the template refuses them or folds system turns."""
        key = roles, generation_prompt
        if key not in self._known:
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[key] = self._made(roles, generation_prompt)
        return self._known[key]

    def junction(self, roles: tuple[str, ...]) -> Junction | None:
        """The junction at the last of these turns; None where its prompt has another form."""
        if roles not in self._junctions:
            if len(self._junctions) >= _KEPT:
                self._junctions.clear()
            own, prompt = self.of(roles, generation_prompt=False), self.of(roles[:-1], generation_prompt=True)
            self._junctions[roles] = _joined(own, prompt, len(roles) - 1) if own and prompt else None
        return self._junctions[roles]

    def _made(self, roles: tuple[str, ...], generation_prompt: bool) -> Frame | None:
        if "system" in roles and not self._template.takes_system:
            return None
        turns: list[Mapping[str, str]] = [
            {"role": role, "content": f"{_OPEN}{number}{_CLOSE}"} for number, role in enumerate(roles)
        ]
        try:
            text = self._template.render_turns(turns, generation_prompt=generation_prompt)
        except TemplateRefusal:
            return None
        fixed = _SLOT.split(text)[::2]
        return _frame(self._pattern.split(text)) if self._keeps_apart(fixed) else None

    def _keeps_apart(self, fixed: Sequence[str]) -> bool:
        """Whether no content can make a control token together with the pieces beside it."""
        joins = any(piece.endswith(self._heads) for piece in fixed[:-1])
        joins |= any(piece.startswith(self._tails) for piece in fixed[1:])
        return not joins and not any(piece in text for piece in fixed[1:-1] for text in self._controls)


def _joined(own: Frame, prompt: Frame, answer: int) -> Junction | None:
    """The junction of two frames; answer: number of the turn that is the answer."""
    last, count = len(prompt.parts) - 1, len(prompt.open)
    is_same = own.parts[:last] == prompt.parts[:last] and own.open[:count] == prompt.open
    if not is_same or len(own.open) == count or (prompt.open and prompt.open[-1][0] == last):
        return None
    tail = prompt.parts[last]
    begins = (tail, answer) if tail else (answer,)
    place, pieces = own.open[count]
    return Junction(own, count, tail) if place == last and pieces[: len(begins)] == begins else None


def _frame(parts: Sequence[str]) -> Frame:
    found = [(number, _SLOT.split(part)) for number, part in enumerate(parts) if _SLOT.search(part)]
    places = tuple(
        (number, tuple(int(piece) if index % 2 else piece for index, piece in enumerate(pieces) if piece))
        for number, pieces in found
    )
    open_ = {number for number, _ in places}
    return Frame(["" if number in open_ else part for number, part in enumerate(parts)], places)
