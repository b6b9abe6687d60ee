"""From messages to token ids and labels: the model's own template, rendered the same for training, evaluation and
serving. Needs `tokenizers` and sandboxed jinja2 only; proven equal to transformers in the tests.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from tunewright.core.chat import Conversation, Message
from tunewright.core.errors import ArtifactError
from tunewright.models.controls import texts_in
from tunewright.models.frames import Frames
from tunewright.models.layout import FramedViews, Layout, TrainedTurn, Views, lay_out
from tunewright.models.segments import Segments
from tunewright.models.template import ChatTemplate, TemplateRefusal, Tools, tools_of
from tunewright.models.token_bytes import TokenBytes, token_bytes

IGNORED = -100
_SPECIAL_NAMES = ("bos_token", "eos_token", "pad_token", "unk_token")
_PROBES = (
    "Hello world, how are you?  Two  spaces.",
    "如何治疗感冒？请在3天内联系我们。",
    "def f(x):\n    return x**2  # ok\n",
    "Mixed 中文 and English: 37.5% of ¥1,200",
    "👨‍👩‍👧 emoji 😀",
)
_PAIR = (Message(role="user", content="a"), Message(role="assistant", content="b"))


@dataclass(slots=True)
class Example:
    """One training sequence. input_ids, labels: same length; a label is -100 where nothing is trained. Nothing changes
    one; it is not frozen because there is one a row and a frozen dataclass takes five times as long to make."""

    input_ids: tuple[int, ...]
    labels: tuple[int, ...]
    row_id: str = ""
    cut_prompt_tokens: int = 0

    @property
    def trained(self) -> int:
        """Number of trained tokens."""
        return sum(label != IGNORED for label in self.labels)


class ChatTokenizer:
    """tokenizer.json as it is, with the chat template beside it."""

    def __init__(self, tokenizer: Tokenizer, settings: dict[str, Any], template: str, end_ids: Sequence[int]) -> None:
        self._tokenizer, self.settings = tokenizer, settings
        self.bos = token_text(settings.get("bos_token"))
        self.eos = token_text(settings.get("eos_token"))
        eos_id = tokenizer.token_to_id(self.eos) if self.eos else None
        self.end_ids = frozenset([*end_ids, *([] if eos_id is None else [eos_id])])
        names = {name: token_text(settings.get(name)) for name in _SPECIAL_NAMES}
        self.template = ChatTemplate(template, names)
        self.segments = Segments(tokenizer, template)
        self.frames = Frames(self.template, list(self.segments.controls), self.segments.pattern)
        self.max_length = min(int(settings.get("model_max_length") or 10**9), 10**9)

    @classmethod
    def load(cls, folder: Path) -> ChatTokenizer:
        """Raises ArtifactError when files are missing, there is no chat template, or the round trip fails."""
        path = folder / "tokenizer.json"
        if not path.exists():
            raise ArtifactError("the model folder has no tokenizer.json", where=str(folder))
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception for every fault
            raise ArtifactError(f"tokenizer.json cannot be read: {error}", where=str(path)) from None
        tokenizer.no_truncation()
        tokenizer.no_padding()
        settings = _json(folder / "tokenizer_config.json")
        generation = _json(folder / "generation_config.json")
        config = _json(folder / "config.json")
        if "max_position_embeddings" in config:
            own = settings.get("model_max_length") or 10**9
            settings["model_max_length"] = min(own, config["max_position_embeddings"])
        ends = generation.get("eos_token_id", config.get("eos_token_id"))
        end_ids = [ends] if isinstance(ends, int) else list(ends or [])
        loaded = cls(tokenizer, settings, _template(folder, settings), end_ids)
        loaded.end_ids |= loaded._turn_end()
        loaded.prove(str(folder))
        return loaded

    def prove(self, where: str) -> None:
        """Fails closed when text does not survive encoding: a model must not train on destroyed text."""
        for text in _PROBES:
            back = self.decode(self.encode(text))
            if back.strip() != text.strip():
                raise ArtifactError(f"the tokenizer destroys text: {text!r} came back as {back!r}", where=where)
        if not self.end_ids:
            raise ArtifactError("the model names no end token, so answers would never stop", where=where)

    def _turn_end(self) -> frozenset[int]:
        """The control token that the template writes behind an answer, where no known end token stands there:
        a tokenizer's eos is often that of the base model, not the template's."""
        try:
            own = self.template.render(_PAIR)
        except TemplateRefusal:
            return frozenset()
        behind = self.segments.find(own[own.rindex("b") :] if "b" in own else "")
        ids = [self.segments.controls[text] for text in behind]
        return frozenset(ids[:1]) if self.end_ids.isdisjoint(ids) else frozenset()

    def encode(self, text: str) -> list[int]:
        """Ids without any added special token; token text in `text` becomes control ids (template text only)."""
        return self.segments.whole(text)

    def decode(self, ids: Sequence[int], *, keep_special: bool = False) -> str:
        """Text of `ids`."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=not keep_special))

    def messages_ids(
        self, messages: Sequence[Message], *, generation_prompt: bool = False, tools: Tools | None = None
    ) -> list[int]:
        """Ids of the rendered messages, one BOS at most, and no control id that comes from content."""
        return self._views(messages, tools).render(len(messages), generation_prompt=generation_prompt).ids

    def prompt_ids(self, messages: Sequence[Message], *, tools: Tools | None = None) -> list[int]:
        """What a server sends to the model to get the next answer."""
        return self.messages_ids(messages, generation_prompt=True, tools=tools)

    def _views(self, messages: Sequence[Message], tools: Tools | None) -> Views | FramedViews:
        bos = self.bos_id if self.settings.get("add_bos_token") else -1
        plain = partial(Views, self.template, self.segments, messages, tools=tools, bos=bos)
        turns = None if tools else self.frames.taken(messages)
        return FramedViews(self.frames, self.segments, turns, bos=bos, plain=plain) if turns else plain()

    @cached_property
    def token_bytes(self) -> TokenBytes:
        """What each token stands for, byte by byte. Raises BytesUnknown for a tokenizer that does not show it."""
        return token_bytes(self._tokenizer, self.segments.control_ids)

    @cached_property
    def bos_id(self) -> int:
        """Id of the begin token, -1 without one."""
        index = self._tokenizer.token_to_id(self.bos) if self.bos else None
        return -1 if index is None else int(index)

    @cached_property
    def bos_marks_turns(self) -> bool:
        """Whether the begin token opens every turn (ChatML): then it is no begin of the sequence."""
        try:
            once, twice = (self.messages_ids(_PAIR * pairs).count(self.bos_id) for pairs in (1, 2))
        except TemplateRefusal:  # a template for single questions has no turns to mark
            return False
        return self.bos_id >= 0 and twice > once

    def control_texts_in(self, text: str) -> list[str]:
        """Control tokens that the text spells out, in order."""
        return self.segments.find(text)

    def control_texts_of(self, message: Message) -> list[str]:
        """Control tokens that a turn's content, calls or other texts spell out; the marks of the reasoning block
        that an answer begins with are the model's own and none of them."""
        if not message.tool_calls and "<think>" not in (message.content or ""):
            return self.control_texts_in(message.content or "")
        return [found for text in texts_in(message.to_template()) for found in self.control_texts_in(text)]

    def layout(self, conversation: Conversation) -> Layout:
        """Where each trained turn stands. Raises TemplateRefusal, and ArtifactError that names the turn whose prompt
        or end token the template leaves out."""
        last = max((index for index, turn in enumerate(conversation.messages) if turn.trained), default=-1)
        views = self._views(conversation.messages[: last + 1], tools_of(conversation.metadata))
        return lay_out(conversation, views, end_ids=self.end_ids)

    def examples(self, conversation: Conversation, *, max_length: int) -> list[Example]:
        """Training sequences of a conversation: one where the template only appends, else one a trained turn.

        Trained are the tokens after the generation prompt up to and including the end token of each trained turn.
        A prompt that is too long is cut from the left (counted); an answer is never cut: ArtifactError names it.
        """
        return self.laid_out(self.layout(conversation), conversation.id, max_length=max_length)

    def laid_out(self, layout: Layout, row_id: str, *, max_length: int) -> list[Example]:
        """The examples of a layout, for any number of limits without rendering again."""
        turns = layout.turns
        if layout.whole is not None and layout.fits(max_length):
            ids = layout.whole.ids[: turns[-1].end]
            return [_example(ids, [(turn.start, turn.end) for turn in turns], row_id, 0)]
        return [self._turn_example(turn, row_id, max_length) for turn in turns]

    def _turn_example(self, turn: TrainedTurn, row_id: str, max_length: int) -> Example:
        ids, start, end = turn.own.ids, turn.start, turn.end
        bos = [] if self.bos_marks_turns or ids[:1] != [self.bos_id] else ids[:1]
        if end - start > max_length - max(1, len(bos)):
            raise ArtifactError(
                f"the answer of turn {turn.index + 1} has {end - start} tokens, more than max_length {max_length}",
                where=row_id,
                fix="shorten the answer or raise model.max_length",
            )
        cut = max(0, end - max_length)
        kept = [*bos, *ids[cut + len(bos) : end]] if cut else ids[:end]
        return _example(kept, [(start - cut, end - cut)], row_id, cut)


def token_text(value: Any) -> str:
    """tokenizer_config.json holds a special token as text or as an AddedToken dict."""
    return str(value["content"]) if isinstance(value, dict) else str(value or "")


def _example(ids: list[int], spans: list[tuple[int, int]], row_id: str, cut: int) -> Example:
    labels = [IGNORED] * len(ids)
    for start, end in spans:
        labels[start:end] = ids[start:end]
    return Example(tuple(ids), tuple(labels), row_id, cut)


def _json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError:
        raise ArtifactError("this file is no valid JSON", where=str(path), fix="fetch the model again") from None


def _template(folder: Path, settings: dict[str, Any]) -> str:
    path = folder / "chat_template.jinja"
    template = path.read_text(encoding="utf-8") if path.exists() else settings.get("chat_template")
    if isinstance(template, list):
        template = next((item["template"] for item in template if item.get("name") == "default"), None)
    if not template:
        raise ArtifactError("the model has no chat template", where=str(folder), fix="use a chat (instruct) model")
    return str(template)
