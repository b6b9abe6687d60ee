"""The rules of numbers.RULES, each proven on a row's finished sequences by another way than they were made."""

from __future__ import annotations

from collections.abc import Sequence
from unicodedata import normalize

from tunewright.core.chat import Conversation, Message
from tunewright.data.tokens.numbers import RowTokens
from tunewright.models.controls import own_reasoning
from tunewright.models.layout import Layout
from tunewright.models.template import TemplateRefusal, tools_of
from tunewright.models.tokens import IGNORED, ChatTokenizer, Example


class Proofs:
    """What one tokenizer must keep to."""

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self._tokenizer = tokenizer
        self._openings = str.maketrans({text[0]: "x" for text in tokenizer.segments.controls})
        self.expected_bos = self._expected_bos()

    def _expected_bos(self) -> int | None:
        """How many BOS a sequence has; None where the model has none or uses it as a turn marker (ChatML)."""
        if self._tokenizer.bos_id < 0 or self._tokenizer.bos_marks_turns:
            return None
        pair = (Message(role="user", content="a"), Message(role="assistant", content="b"))
        try:
            renders = self._tokenizer.bos in self._tokenizer.template.render(pair)
        except TemplateRefusal:  # every row will be refused with the template's own words
            renders = False
        return int(renders or bool(self._tokenizer.settings.get("add_bos_token")))

    def row(self, conversation: Conversation, layout: Layout, examples: Sequence[Example]) -> RowTokens:
        """The numbers of a row, with every rule asked."""
        tokenizer = self._tokenizer
        runs = [run for example in examples for run in runs_of(example)]
        ends = sum(run[-1] in tokenizer.end_ids for run in runs)
        spelled = sum(len(tokenizer.control_texts_of(message)) for message in conversation.messages)
        checks = {
            "rendering": layout.spells_controls or self.is_rendering(conversation, layout, examples),
            "bos": all(self.bos_right(example.input_ids) for example in examples),
            "labels": all(example.trained for example in examples),
            "end": ends == len(runs) == len(trained_of(conversation)),
            "control": self._controls_are_the_templates(conversation, layout),
            "round_trip": self._comes_back(conversation, runs),
        }
        return RowTokens(
            sequences=len(examples),
            tokens=sum(len(example.input_ids) for example in examples),
            trained=sum(example.trained for example in examples),
            longest=max(len(example.input_ids) for example in examples),
            bos=0 if self.expected_bos is None else max(self.bos_count(example.input_ids) for example in examples),
            end_tokens=ends,
            cut=sum(example.cut_prompt_tokens for example in examples),
            control_texts=spelled,
            breaches=tuple(name for name, holds in checks.items() if not holds),
        )

    def is_rendering(self, conversation: Conversation, layout: Layout, examples: Sequence[Example]) -> bool:
        """Asked of rows without control text (the others have other ids by intent): every turn's own sequence is its
        rendering encoded in one piece, and every example is the end of such a sequence."""
        tools = tools_of(conversation.metadata)
        for turn in layout.turns:
            if turn.exact:
                text = self._tokenizer.template.render(conversation.messages[: turn.index + 1], tools=tools)
                if self._with_bos(self._tokenizer.encode(text)) != turn.own.ids:
                    return False
        owns = layout.turns[-1:] if len(examples) < len(layout.turns) else layout.turns
        kept = int(bool(self.expected_bos))
        return all(
            list(example.input_ids[kept:]) == turn.own.ids[kept + example.cut_prompt_tokens : turn.end]
            for example, turn in zip(examples, owns, strict=True)
        )

    def _with_bos(self, ids: list[int]) -> list[int]:
        adds = self._tokenizer.settings.get("add_bos_token") and self._tokenizer.bos_id >= 0
        return [self._tokenizer.bos_id, *ids] if adds and ids[:1] != [self._tokenizer.bos_id] else ids

    def bos_count(self, ids: Sequence[int]) -> int:
        """How many begin tokens a sequence has."""
        return ids.count(self._tokenizer.bos_id)

    def bos_right(self, ids: Sequence[int]) -> bool:
        """Whether the begin token stands where and as often as it should."""
        return self.expected_bos is None or self.bos_count(ids[:1]) == self.bos_count(ids) == self.expected_bos

    def _controls_are_the_templates(self, conversation: Conversation, layout: Layout) -> bool:
        """Every sequence has the control ids, in order, of the same turns whose content cannot spell one: the first
        letter of every control token is taken out of it, the marks of the model's own reasoning apart."""
        harmless = [self._harmless(message) for message in conversation.messages]
        tools = tools_of(conversation.metadata)
        for turn in layout.turns:
            expected = self._tokenizer.messages_ids(harmless[: turn.index + 1], tools=tools)
            if self.controls(expected) != self.controls(turn.own.ids):
                return False
        return True

    def controls(self, ids: Sequence[int]) -> list[int]:
        """The control ids of a sequence in order."""
        known = self._tokenizer.segments.control_ids
        return [token for token in ids if token in known]

    def _harmless(self, message: Message) -> Message:
        content = message.content
        if not content:
            return message
        size = own_reasoning({"role": message.role, "content": content})
        changed = content[size:].translate(self._openings)
        if size:
            block = content[:size]
            inner = block.index("<think>") + len("<think>")
            text = block[inner : -len("</think>")].translate(self._openings)
            changed = f"{block[:inner]}{text}</think>{changed}"
        return message.model_copy(update={"content": changed})

    def _comes_back(self, conversation: Conversation, runs: Sequence[Sequence[int]]) -> bool:
        """Every turn's text survives encoding with its spaces, and every answer stands in its trained tokens."""
        texts = [message.content or "" for message in conversation.messages]
        if not all(self._tokenizer.control_texts_in(text) or self.survives(text) for text in texts):
            return False
        shown = [self._tokenizer.decode(run, keep_special=True) for run in runs]
        return all(is_shown(turn, text) for turn, text in zip(trained_of(conversation), shown, strict=False))

    def survives(self, text: str) -> bool:
        """Whether `text` comes back from its ids: the same characters, in NFC, which some tokenizers bring about."""
        back = self._tokenizer.decode(self._tokenizer.encode(text), keep_special=True)
        return back.strip() == text.strip() or normalize("NFC", back.strip()) == normalize("NFC", text.strip())


def trained_of(conversation: Conversation) -> list[Message]:
    """The turns that are trained."""
    return [message for message in conversation.messages if message.trained]


def runs_of(example: Example) -> list[list[int]]:
    """The trained tokens of an example, one list a turn: template text always stands between two answers."""
    runs: list[list[int]] = []
    previous = IGNORED
    for label in example.labels:
        if label != IGNORED:
            if previous == IGNORED:
                runs.append([])
            runs[-1].append(label)
        previous = label
    return runs


def is_shown(turn: Message, text: str) -> bool:
    """Whether an answer stands in `text`, white space apart (templates may trim it), or, where the template leaves
    out the reasoning, all that comes behind the reasoning."""
    answer, shown = turn.content or "", solid(text)
    size = own_reasoning({"role": turn.role, "content": answer})
    return solid(answer) in shown or (size > 0 and solid(answer[size:]) in shown)


def solid(text: str) -> str:
    """Text without whitespace."""
    return "".join(text.split())
