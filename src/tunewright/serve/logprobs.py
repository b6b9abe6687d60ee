"""Log probabilities on the wire: one entry a token, and which entries a piece of text is made of.

Values are of the model's own distribution: before temperature, top-p and any schema (models/request).
Source: OpenAI API reference, "Chat", `logprobs`.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel

from tunewright.models.request import Logprob, Request
from tunewright.models.tokens import ChatTokenizer

LEAST = -9999.0
"""Stands for smaller values, as in OpenAI's answers: JSON has no infinity."""


class TopLogprob(BaseModel):
    """A token that could have come. token: its text, U+FFFD for part of a character; bytes: what it is exactly."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(TopLogprob):
    """The token that came. The bytes of all of them, joined, are the answer's text."""

    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(BaseModel):
    """Those of one answer, or of one chunk."""

    content: list[TokenLogprob]
    refusal: None = None


Log = Callable[[], Sequence[TokenLogprob]]
"""The entries of all tokens so far that have a text."""


class TokenLog:
    """The log of a request that generates here. Belongs to one thread; another one may append to the request."""

    def __init__(self, request: Request, tokenizer: ChatTokenizer) -> None:
        """Raises BytesUnknown."""
        self._request, self._tokenizer = request, tokenizer
        self._known = tokenizer.token_bytes
        self._entries: list[TokenLogprob] = []
        self._read = 0

    def __call__(self) -> Sequence[TokenLogprob]:
        """See `Log`. A control token, which no text shows, has no entry."""
        request = self._request
        for place in range(self._read, min(len(request.output_ids), len(request.logprobs))):
            if request.output_ids[place] not in self._known.hidden:
                self._entries.append(self._entry(request.logprobs[place]))
            self._read += 1
        return self._entries

    def _entry(self, found: Logprob) -> TokenLogprob:
        spelled = self._known.of(found.token)
        if not self._entries and spelled.startswith(b" ") and not self._tokenizer.decode([found.token]).startswith(" "):
            spelled = spelled[1:]  # the blank in front of a first word is the tokenizer's, not the answer's
        top = [top_entry(self._known.of(token), value) for token, value in found.top]
        return entry(spelled, found.logprob, top)


def top_entry(spelled: bytes, logprob: float) -> TopLogprob:
    """One of the most probable tokens."""
    return TopLogprob(token=_text(spelled), logprob=max(logprob, LEAST), bytes=list(spelled))


def entry(spelled: bytes, logprob: float, top: list[TopLogprob]) -> TokenLogprob:
    """A chosen token."""
    return TokenLogprob(token=_text(spelled), logprob=max(logprob, LEAST), bytes=list(spelled), top_logprobs=top)


def cut(entries: Sequence[TokenLogprob], text: str) -> list[TokenLogprob]:
    """The entries of `text`, which begins as theirs does: a stop string cuts both. A token that is cut in the middle
    keeps its value."""
    if b"".join(bytes(one.bytes or ()) for one in entries).decode(errors="replace") == text:
        return list(entries)
    decoder, left = codecs.getincrementaldecoder("utf-8")("replace"), len(text)
    kept = []
    for one in entries:
        spelled, used = bytes(one.bytes or ()), 0
        while left > 0 and used < len(spelled):
            new = len(decoder.decode(spelled[used : used + 1]))
            used += new <= left  # else what came before was no whole character, and this byte is behind the cut
            left = max(0, left - new)
        if used == len(spelled):
            kept.append(one)
        elif used:
            kept.append(entry(spelled[:used], one.logprob, one.top_logprobs))
        if left == 0:
            return kept
    return kept


@dataclass
class Follower:
    """Follows a stream of text: which entries belong to what has been sent."""

    chars: int = 0
    """Characters of the entries that were given out."""
    place: int = 0
    """How many those are."""
    _decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace")
    )

    def more(self, entries: Sequence[TokenLogprob], sent: int) -> list[TokenLogprob]:
        """The next ones whose characters are all among the first `sent`. Parts of a character come together."""
        start = end = self.place
        chars, state = self.chars, self._decoder.getstate()
        for place in range(start, len(entries)):
            chars += len(self._decoder.decode(bytes(entries[place].bytes or ())))
            if chars > sent:
                break
            is_whole = not self._decoder.getstate()[0]
            if is_whole:
                end, self.chars, state = place + 1, chars, self._decoder.getstate()
        self._decoder.setstate(state)
        self.place = end
        return list(entries[start:end])


def _text(spelled: bytes) -> str:
    return spelled.decode(errors="replace")
