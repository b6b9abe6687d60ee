"""Encoding a rendered conversation: control tokens to their ids, the text between them to its own.

What repeats (system turns, headers, labels) is encoded once and remembered, which is exact where
`controls.splits_cleanly` holds; `is_used = False` turns it off and encodes whole texts. `uses_words = False` leaves
every part to the tokenizer, also where `words` is proven.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

from tokenizers import Tokenizer

from tunewright.models.controls import Shield, control_tokens, pattern_of, splits_cleanly
from tunewright.models.frames import Frame
from tunewright.models.words import words_of

ValueT = TypeVar("ValueT")
_ENTRIES = 4096
_WORDS = 1 << 14
_LONGEST = 512
"""Characters of the longest part that is remembered: together some 10 MB at most."""


@dataclass(slots=True)
class Rendered:
    """A template's text with its ids. parts: text and control tokens in turns, empty where the text was encoded
    as a whole; control text of content is spelled by private-use characters in `text`. frame: what it was made from
    where it was, with the place in `ids` at which each of its open parts starts. Nothing changes one; it is not frozen
    because there are some a row and a frozen dataclass takes five times as long to make."""

    text: str
    ids: list[int]
    parts: Sequence[str] = ()
    frame: Frame | None = None
    starts: Sequence[int] = ()


class Segments:
    """The encoder of one tokenizer and template."""

    def __init__(self, tokenizer: Tokenizer, template: str) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self.controls = control_tokens(added, template)
        self.pattern = pattern_of(list(self.controls))
        self.control_ids = frozenset(self.controls.values())
        others = [token.content for token in added.values() if token.content not in self.controls]
        self._others = pattern_of(sorted(others, key=lambda text: -len(text)))
        self.is_used = splits_cleanly(tokenizer, added, self.controls)
        self.uses_words, self._words = True, words_of(tokenizer, Recent(_WORDS))
        self._fixed = {text: [index] for text, index in self.controls.items()}
        self._ids: Recent[list[int]] = Recent()
        self._exact: Recent[bool] = Recent()

    def find(self, text: str) -> list[str]:
        """The control tokens that a text spells, in order."""
        return [match[0] for match in self.pattern.finditer(text)]

    def shield(self, texts: Sequence[str]) -> Shield | None:
        """What covers the control tokens that these texts spell; None where they spell none."""
        if not any(self.pattern.search(text) for text in texts):
            return None
        return Shield(list(self.controls), self.pattern, texts=texts)

    def encode(self, text: str, shield: Shield | None = None) -> Rendered:
        """The ids of a rendering. shield: what covers control text of content in it."""
        if shield is not None:
            return Rendered(text, self._covered(text, shield))
        return self.joined(text, self.pattern.split(text) if self.is_used else ())

    def joined(self, text: str, parts: Sequence[str]) -> Rendered:
        """The same for a text that was split already. parts: as `pattern.split` gives them."""
        if not self.is_used:
            return Rendered(text, self.whole(text))
        ids: list[int] = []
        fixed, recent = self._fixed, self._ids.newest
        for part in parts:
            if part:
                ids += fixed.get(part) or recent.get(part) or self.part(part)
        return Rendered(text, ids, parts)

    def framed(self, frame: Frame, contents: Sequence[str]) -> Rendered:
        """The same for a frame with these contents; what stands between them is looked up once a frame."""
        parts = frame.filled(contents)
        text = "".join(parts)
        if not self.is_used:
            return Rendered(text, self.whole(text))
        runs = frame.runs
        if not runs:
            runs += self._between(frame)
        ids = runs[0].copy()
        recent, starts = self._ids.newest, []
        for (place, _), behind in zip(frame.open, runs[1:], strict=True):
            starts.append(len(ids))
            part = parts[place]
            ids += recent.get(part) or self.part(part)
            ids += behind
        return Rendered(text, ids, parts, frame, starts)

    def _between(self, frame: Frame) -> list[list[int]]:
        """The ids in front of, between and behind the parts that hold contents."""
        ends = [place for place, _ in frame.open]
        starts = [0, *(place + 1 for place in ends)]
        runs = zip(starts, [*ends, len(frame.parts)], strict=True)
        return [self.joined("", frame.parts[low:high]).ids for low, high in runs]

    def whole(self, text: str) -> list[int]:
        """Ids of `text` in one piece; control text in it becomes control ids."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def part(self, text: str) -> list[int]:
        """Ids of a text without control tokens."""
        known = self._ids.get(text)
        if known is None:
            ids = self._word_ids(text)
            if ids is not None and self._words is not None and self._words.come_back:
                self._exact.put(text, True)
            known = self._ids.put(text, self.whole(text) if ids is None else ids)
        return known

    def _word_ids(self, text: str) -> list[int] | None:
        """The ids from those of the text's words, where that is proven."""
        if self._words is None or not self.uses_words or self._others.search(text):
            return None
        return self._words.ids(text)

    def comes_back(self, rendered: Rendered) -> bool:
        """Whether every part's ids decode to exactly its text; False where there are no parts to ask."""
        known = self._exact.newest
        return bool(rendered.parts) and all(
            known.get(part) or self._part_comes_back(part) for part in rendered.parts[::2] if part
        )

    def open_come_back(self, rendered: Rendered) -> bool:
        """`comes_back` for the parts of a frame that hold contents."""
        known, parts = self._exact.newest, rendered.parts
        assert rendered.frame is not None
        for place, _ in rendered.frame.open:
            part = parts[place]
            if not (known.get(part) or self._part_comes_back(part)):
                return False
        return True

    def _part_comes_back(self, text: str) -> bool:
        known = self._exact.get(text)
        if known is None:
            back = self._tokenizer.decode(self.part(text), skip_special_tokens=False)
            known = self._exact.put(text, back == text)
        return known

    def _covered(self, text: str, shield: Shield) -> list[int]:
        pieces = self.pattern.split(text) if self.is_used else [text]
        ids: list[int] = []
        for index, piece in enumerate(pieces):
            if index % 2:
                ids.append(self.controls[piece])
            elif self.is_used and shield.covered.search(piece) and not self._others.search(piece):
                ids += self.spelled(shield.uncover(piece))
            else:
                for part, is_control in shield.parts(piece):
                    ids += self.spelled(part) if is_control else self.whole(part)
        return ids

    def spelled(self, text: str) -> list[int]:
        """Ids of `text` as plain text: no control id, whatever it spells. A model that knows a control text as an
        ordinary entry as well (Unigram) gets it in two halves."""
        ids = list(self._plain.encode(text, add_special_tokens=False).ids)
        if self.control_ids.isdisjoint(ids) or len(text) < 2:
            return ids
        half = len(text) // 2
        match = self.pattern.search(text)
        if match and (match.start() or match.end() < len(text)):
            half = match.start() + 1
        return self.spelled(text[:half]) + self.spelled(text[half:])

    @cached_property
    def _plain(self) -> Tokenizer:
        """The same model without added tokens: it spells control text out as ordinary tokens."""
        document = json.loads(self._tokenizer.to_str())
        document["added_tokens"] = []
        document["post_processor"] = None
        return Tokenizer.from_str(json.dumps(document))


class Recent(Generic[ValueT]):
    """A bounded memory of short texts: two generations, the older one is forgotten when the newer is full."""

    def __init__(self, entries: int = _ENTRIES) -> None:
        self.newest: dict[str, ValueT] = {}
        self._old: dict[str, ValueT] = {}
        self._entries = entries

    def get(self, text: str) -> ValueT | None:
        """What is remembered of `text`."""
        known = self.newest.get(text)
        if known is None and (known := self._old.get(text)) is not None:
            self.put(text, known)
        return known

    def put(self, text: str, value: ValueT) -> ValueT:
        """Remembers and returns `value`."""
        if len(text) <= _LONGEST:
            if len(self.newest) >= self._entries:
                self._old, self.newest = self.newest, {}
            self.newest[text] = value
        return value
