"""What the model will see of every row, proven before training: mask, BOS, end tokens, control ids, round trip.

The checks are those of RULES. Needs `tokenizers` only, neither torch nor transformers.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

from tunewright.core.chat import Conversation, Message
from tunewright.core.errors import ArtifactError
from tunewright.data.findings import Note, Rejection, excerpt
from tunewright.data.tokens.length import length_notes
from tunewright.data.tokens.numbers import RULES, RowTokens, refuse_breaches, table
from tunewright.data.tokens.proofs import Proofs, is_shown, solid
from tunewright.models.controls import nested_texts, own_reasoning
from tunewright.models.frames import Frame
from tunewright.models.layout import Layout
from tunewright.models.segments import Rendered
from tunewright.models.template import TemplateRefusal, tools_of
from tunewright.models.tokens import ChatTokenizer

__all__ = ["RULES", "RowTokens", "TokenCheck", "refuse_breaches", "table"]

_PRIVATE_USE = re.compile("[\U000f0000-\U000ffffd]")
_KEPT = 1024
_SAMPLED = 32
"""Every 32nd row, chosen by its id, has its ids compared with the rendering encoded in one piece also where this
follows from the tokenizer's construction."""


class TokenCheck:
    """Turns conversations into their training sequences and proves them. max_length: tokens of a sequence.

    quick: rows whose proof follows from what is known already (segments that came back, control ids of the same
    turns) are not asked again; every doubt goes the plain way, and False sends all rows there.
    """

    def __init__(self, tokenizer: ChatTokenizer, *, max_length: int, quick: bool = True) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length
        self._proofs = Proofs(tokenizer)
        self._is_quick = quick and tokenizer.segments.is_used and tokenizer.end_ids <= tokenizer.segments.control_ids
        self._shapes: dict[tuple[str, ...], list[str]] = {}
        self._frames: set[Frame] = set()
        self._last: tuple[Conversation, Layout] | None = None

    @property
    def expected_bos(self) -> int | None:
        """How many BOS a sequence has; None where the model has none or uses it as a turn marker (ChatML)."""
        return self._proofs.expected_bos

    def measure(self, conversation: Conversation) -> RowTokens | Rejection:
        """The row's numbers, or why the model cannot be trained on it."""
        try:
            layout = self._layout(conversation)
            return self._too_long(conversation, layout) or self._proven(conversation, layout)
        except (TemplateRefusal, ArtifactError) as error:
            return Rejection("TEMPLATE", error.problem, excerpt(conversation.reference))

    def _layout(self, conversation: Conversation) -> Layout:
        """`measure` and `notes` ask for the same row one after the other."""
        if self._last is None or self._last[0] is not conversation:
            self._last = conversation, self.tokenizer.layout(conversation)
        return self._last[1]

    def _too_long(self, conversation: Conversation, layout: Layout) -> Rejection | None:
        longest = max(turn.end - turn.start for turn in layout.turns)
        if longest <= self.max_length - 1:
            return None
        reason = f"an answer of {longest} tokens does not fit into max_length {self.max_length}"
        return Rejection("TOO_LONG", reason, excerpt(conversation.reference))

    def _proven(self, conversation: Conversation, layout: Layout) -> RowTokens | Rejection:
        row = self._quick(conversation, layout) if self._is_quick else None
        return row or self._lost(conversation, layout) or self._plain(conversation, layout)

    def _quick(self, conversation: Conversation, layout: Layout) -> RowTokens | None:
        """The numbers of a row whose proof needs nothing new; None where there is any doubt."""
        whole, tokenizer = layout.whole, self.tokenizer
        if whole is None or layout.spells_controls or not layout.fits(self.max_length):
            return None
        if layout.turns[-1].index + 1 < len(conversation.messages):
            return None
        is_shown = self._framed if whole.frame is not None else self._shown
        if not is_shown(conversation, whole):
            return None
        for turn in layout.turns:
            content = conversation.messages[turn.index].content or ""
            if not turn.exact or not turn.answer.startswith((content, f" {content}")):
                return None
        if zlib.crc32(conversation.id.encode()) % _SAMPLED == 0:
            examples = tokenizer.laid_out(layout, conversation.id, max_length=self.max_length)
            if not self._proofs.is_rendering(conversation, layout, examples):
                return None
        return self._numbers(layout, whole.ids)

    def _shown(self, conversation: Conversation, whole: Rendered) -> bool:
        """Whether the rendering has the turns' texts, which come back from its ids, and the control tokens that the
        template writes for any texts."""
        for message in conversation.messages:
            content = message.content
            if message.tool_calls or content is None or content not in whole.text or "<think>" in content:
                return False
        is_whole = self.tokenizer.segments.comes_back(whole)
        return is_whole and whole.parts[1::2] == self._shape(conversation.messages)

    def _framed(self, conversation: Conversation, whole: Rendered) -> bool:
        """The same for a rendering from a frame, asked once a frame as far as it is the same for all contents."""
        frame = whole.frame
        assert frame is not None
        if frame in self._frames:
            return self.tokenizer.segments.open_come_back(whole)
        shown = {piece for _, pieces in frame.open for piece in pieces if type(piece) is int}
        is_sound = shown == set(range(len(conversation.messages))) and self._shown(conversation, whole)
        if is_sound:
            if len(self._frames) >= _KEPT:
                self._frames.clear()
            self._frames.add(frame)
        return is_sound

    def _numbers(self, layout: Layout, ids: list[int]) -> RowTokens | None:
        size = layout.turns[-1].end
        expected = self.expected_bos
        if expected is not None and not self._proofs.bos_right(ids[:size]):
            return None
        trained = 0
        for turn in layout.turns:
            trained += turn.end - turn.start
        return RowTokens(1, size, trained, size, expected or 0, end_tokens=len(layout.turns))

    def _shape(self, messages: tuple[Message, ...]) -> list[str]:
        """The control tokens that the template writes for turns of these roles, whatever their content."""
        roles = tuple(message.role for message in messages)
        known = self._shapes.get(roles)
        if known is None:
            blank = [Message(role=message.role, content="x") for message in messages]
            text = self.tokenizer.template.render(blank)
            if len(self._shapes) >= _KEPT:
                self._shapes.clear()
            known = self._shapes[roles] = self.tokenizer.control_texts_in(text)
        return known

    def _plain(self, conversation: Conversation, layout: Layout) -> RowTokens | Rejection:
        examples = self.tokenizer.laid_out(layout, conversation.id, max_length=self.max_length)
        row = self._proofs.row(conversation, layout, examples)
        if not row.breaches:
            return row
        return _shield_in(conversation) or self._unencodable(conversation) or row

    def _lost(self, conversation: Conversation, layout: Layout) -> Rejection | None:
        """A template that does not know tool calls or a role renders nothing of them without a word."""
        for turn in layout.turns:
            for call in conversation.messages[turn.index].tool_calls:
                if call["function"]["name"] not in turn.answer:
                    name = excerpt(call["function"]["name"])
                    return Rejection("TEMPLATE", f"the chat template does not show the tool call {name}")
        shown = solid("".join(turn.own.text for turn in layout.turns))
        for index, message in enumerate(conversation.messages[: layout.turns[-1].index]):
            if message.role != "assistant" and solid(message.content or "") not in shown:
                probe = [*conversation.messages[: layout.turns[-1].index + 1]]
                probe[index] = message.model_copy(update={"content": "q7z9"})
                if "q7z9" not in self.tokenizer.template.render(probe).casefold():
                    reason = f"the chat template does not show turn {index + 1}, of the role {message.role}"
                    return Rejection("TEMPLATE", reason, excerpt(message.content or ""))
        return None

    def _unencodable(self, conversation: Conversation) -> Rejection | None:
        """A character that the vocabulary does not have: it would become the id for unknown, often a control token's
        (SmolLM2 writes <|endoftext|> for the bytes it never met)."""
        for number, message in enumerate(conversation.messages, start=1):
            content = message.content or ""
            for place, letter in enumerate(content):
                if not (letter.isascii() or letter.isspace() or self._proofs.survives(letter)):
                    reason = f"turn {number} holds U+{ord(letter):04X}, which the model's tokenizer does not know"
                    return Rejection("UNENCODABLE", reason, excerpt(content, place))
        return None

    def notes(self, conversation: Conversation) -> list[Note]:
        """What training does otherwise than the row says: control tokens spelled in content, a system turn that is
        folded, prompts that are cut, a conversation cut into its turns, reasoning and tools that are not shown."""
        notes = [*self._tools(conversation)] if conversation.metadata else []
        if conversation.messages[0].role == "system" and not self.tokenizer.template.takes_system:
            notes.append(
                Note("SYSTEM_ROLE", "repaired", "the template takes no system turn: folded into the user turn")
            )
        try:
            layout = self._layout(conversation)
        except (TemplateRefusal, ArtifactError):  # `measure` says so
            return notes
        if layout.spells_controls:
            notes += self._spelled(conversation)
        notes += length_notes(conversation, layout, max_length=self.max_length)
        return [*notes, *_reasoning(conversation, layout)]

    def _spelled(self, conversation: Conversation) -> Iterator[Note]:
        for number, turn in enumerate(conversation.messages, start=1):
            found = self.tokenizer.control_texts_of(turn)
            if found:
                text = turn.content or ""
                reason = f"turn {number} spells control token {found[0]}; encoded as plain text"
                yield Note("SPECIAL_TOKEN", "kept", reason, excerpt(text, max(0, text.find(found[0]))))
        for text in nested_texts(tools_of(conversation.metadata)):
            for spelled in self.tokenizer.control_texts_in(text)[:1]:
                reason = f"the tools spell control token {spelled}; encoded as plain text"
                yield Note("SPECIAL_TOKEN", "kept", reason, excerpt(text, text.find(spelled)))

    def _tools(self, conversation: Conversation) -> Iterator[Note]:
        given = conversation.metadata.get("tools")
        if not given or str(given).strip() == "[]":
            return
        tools = tools_of(conversation.metadata)
        if tools is None:
            yield Note("TOOLS_UNUSED", "kept", "metadata.tools is no list of tool descriptions", excerpt(str(given)))
        elif not self.tokenizer.template.takes_tools:
            yield Note("TOOLS_UNUSED", "kept", f"the template shows none of the row's {len(tools)} tool(s)")


def _reasoning(conversation: Conversation, layout: Layout) -> Iterator[Note]:
    for turn in layout.turns:
        message = conversation.messages[turn.index]
        if "<think>" in (message.content or "") and not _has_reasoning(message, turn.answer):
            reason = f"the template leaves out the reasoning of turn {turn.index + 1}: only the answer is trained"
            yield Note("REASONING", "kept", reason, excerpt(message.content or ""))


def _has_reasoning(message: Message, answer: str) -> bool:
    content = message.content or ""
    size = own_reasoning({"role": message.role, "content": content})
    if not size:
        return True
    inner = content[:size].strip().removeprefix("<think>").removesuffix("</think>")
    return solid(inner) in solid(answer) and is_shown(message, answer)


def _shield_in(conversation: Conversation) -> Rejection | None:
    """Content may hold the private-use characters that ChatTokenizer puts in the place of control tokens."""
    for number, message in enumerate(conversation.messages, start=1):
        found = _PRIVATE_USE.search(message.content or "")
        if found:
            reason = f"turn {number} holds the private-use character U+{ord(found[0]):X}"
            return Rejection("PRIVATE_USE", reason, excerpt(message.content or "", found.start()))
    return None
