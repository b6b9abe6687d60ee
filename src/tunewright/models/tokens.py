"""From messages to token ids and labels: the model's own template, rendered the same for training, evaluation and
serving. Needs `tokenizers` and sandboxed jinja2 only; proven equal to transformers in the tests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from tunewright.core.chat import Conversation, Message
from tunewright.core.errors import ArtifactError
from tunewright.models.template import ChatTemplate

IGNORED = -100
_SPECIAL_NAMES = ("bos_token", "eos_token", "pad_token", "unk_token")
_SHIELD = 0xF0000
"""Control-token text inside content is carried through the template as private-use characters from here on."""
_PROBES = (
    "Hello world, how are you?  Two  spaces.",
    "如何治疗感冒？请在3天内联系我们。",
    "def f(x):\n    return x**2  # ok\n",
    "Mixed 中文 and English: 37.5% of ¥1,200",
    "👨‍👩‍👧 emoji 😀",
)


@dataclass(frozen=True)
class Example:
    """One training sequence. input_ids, labels: same length; a label is -100 where nothing is trained."""

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

    def encode(self, text: str) -> list[int]:
        """Ids without any added special token; token text in `text` becomes control ids (template text only)."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int], *, keep_special: bool = False) -> str:
        """Text of `ids`."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=not keep_special))

    def messages_ids(self, messages: Sequence[Message], *, generation_prompt: bool = False) -> list[int]:
        """Ids of the rendered messages, one BOS at most, and no control id that comes from content."""
        first = _shield_start("".join(message.content or "" for message in messages), len(self._controls))
        shielded = [
            message.model_copy(update={"content": self._shield(message.content, first)}) for message in messages
        ]
        rendered = self.template.render(shielded, generation_prompt=generation_prompt)
        ids: list[int] = []
        for piece in re.split(f"([{chr(first)}-{chr(first + len(self._controls))}])", rendered):
            index = ord(piece) - first if len(piece) == 1 else -1
            if 0 <= index < len(self._controls):
                ids += self._plain.encode(self._controls[index], add_special_tokens=False).ids
            elif piece:
                ids += self.encode(piece)
        if self._adds_bos and ids[:1] != [self._bos_id]:
            ids.insert(0, self._bos_id)
        return ids

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """What a server sends to the model to get the next answer."""
        return self.messages_ids(messages, generation_prompt=True)

    @cached_property
    def _bos_id(self) -> int:
        index = self._tokenizer.token_to_id(self.bos) if self.bos else None
        return -1 if index is None else int(index)

    @cached_property
    def _adds_bos(self) -> bool:
        return bool(self.settings.get("add_bos_token")) and self._bos_id >= 0

    @cached_property
    def _controls(self) -> list[str]:
        """Texts of the special tokens, longest first."""
        added = json.loads(self._tokenizer.to_str())["added_tokens"]
        return sorted((token["content"] for token in added if token["special"]), key=lambda text: (-len(text), text))

    @cached_property
    def _plain(self) -> Tokenizer:
        """The same model without added tokens: it spells control text out as ordinary tokens."""
        document = json.loads(self._tokenizer.to_str())
        document["added_tokens"] = []
        document["post_processor"] = None
        return Tokenizer.from_str(json.dumps(document))

    @cached_property
    def _control_pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(map(re.escape, self._controls)) or r"(?!)")

    def control_texts_in(self, text: str) -> list[str]:
        """Special tokens that the content spells out."""
        return self._control_pattern.findall(text)

    def _shield(self, content: str | None, first: int) -> str | None:
        if content is None:
            return None
        numbers = {text: index for index, text in enumerate(self._controls)}
        return self._control_pattern.sub(lambda match: chr(first + numbers[match[0]]), content)

    def examples(self, conversation: Conversation, *, max_length: int) -> list[Example]:
        """Training sequences of a conversation: one where the template only appends, else one a trained turn.

        Trained are the tokens after the generation prompt up to and including the end token of each trained turn.
        A prompt that is too long is cut from the left (counted); an answer is never cut: ArtifactError names it.
        """
        messages = conversation.messages
        trained = [index for index, message in enumerate(messages) if message.trained]
        if not trained:
            return []
        whole = self.messages_ids(messages[: trained[-1] + 1])
        spans = [self._kept_span(messages, index, whole) for index in trained]
        found = [span for span in spans if span is not None]
        if len(found) == len(spans) and found[-1][1] <= max_length:
            return [_example(whole[: found[-1][1]], found, conversation.id, 0)]
        return [self._turn_example(conversation, index, max_length) for index in trained]

    def _turn_example(self, conversation: Conversation, index: int, max_length: int) -> Example:
        ids = self.messages_ids(conversation.messages[: index + 1])
        span = self._span(conversation.messages, index, ids)
        if span is None:
            raise ArtifactError(
                f"the template does not keep the prompt in front of turn {index + 1}",
                where=conversation.id,
                fix="the model's chat template cannot be trained turn by turn; use another template",
            )
        start, end = span
        bos = ids[:1] if ids[:1] == [self._bos_id] else []
        if end - start > max_length - max(1, len(bos)):
            raise ArtifactError(
                f"the answer of turn {index + 1} has {end - start} tokens, more than max_length {max_length}",
                where=conversation.id,
                fix="shorten the answer or raise model.max_length",
            )
        cut = max(0, end - max_length)
        kept = [*bos, *ids[cut + len(bos) : end]] if cut else ids[:end]
        return _example(kept, [(start - cut, end - cut)], conversation.id, cut)

    def _kept_span(self, messages: Sequence[Message], index: int, whole: list[int]) -> tuple[int, int] | None:
        """The span of turn `index` in `whole`; None where the template rewrites earlier turns."""
        own = self.messages_ids(messages[: index + 1])
        span = self._span(messages, index, own)
        return span if span is not None and whole[: span[1]] == own[: span[1]] else None

    def _span(self, messages: Sequence[Message], index: int, ids: list[int]) -> tuple[int, int] | None:
        """(start, end) of turn `index`'s trained tokens in `ids`; None where the prompt is no prefix of it."""
        prompt = self.prompt_ids(messages[:index])
        if ids[: len(prompt)] != prompt:
            return None
        for position in range(len(prompt), len(ids)):
            if ids[position] in self.end_ids:
                return len(prompt), position + 1
        return None


def _shield_start(content: str, count: int) -> int:
    """First of `count` private-use characters that the content does not hold itself (icon fonts use some)."""
    taken = {ord(letter) for letter in content if ord(letter) >= _SHIELD}
    starts = range(_SHIELD, 0x10FFFE - count, count + 1)
    return next(start for start in starts if taken.isdisjoint(range(start, start + count + 1)))


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
