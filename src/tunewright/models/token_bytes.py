"""The bytes of each token of a vocabulary: what a text holds piece by piece, also where a token is part of a character.

Read from the decoder that stands in tokenizer.json: byte level (GPT-2 and after), byte fallback with `▁` for a blank
(SentencePiece), or both in one, as files converted from GGUF have it. Proven against the tokenizer's own decoding.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from tunewright.core.errors import ArtifactError

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_PROBES = ("Hello, world  and more.\n", '{"城市": "上海", "n": -12.5e3}', "药é€😀 𠮷", "a\tb\r\n")


class BytesUnknown(ArtifactError):
    """The tokenizer does not show which bytes its tokens stand for."""


@dataclass(frozen=True)
class TokenBytes:
    """pieces: bytes of each id, empty where an id has no text; hidden: ids that no text shows (control tokens)."""

    pieces: tuple[bytes, ...]
    hidden: frozenset[int]

    def of(self, token: int) -> bytes:
        """Bytes of one id; empty for one beyond the vocabulary, which padded models have."""
        return self.pieces[token] if 0 <= token < len(self.pieces) else b""


def token_bytes(tokenizer: Tokenizer, hidden: Collection[int] = ()) -> TokenBytes:
    """Reads them. hidden: ids that are control tokens beside the tokenizer's special ones. Raises BytesUnknown for a
    tokenizer whose text is not made of its tokens' bytes."""
    steps = _steps(json.loads(tokenizer.to_str()).get("decoder"))
    added = tokenizer.get_added_tokens_decoder()
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    pieces = [b""] * (max(vocabulary.values(), default=-1) + 1)
    for text, index in vocabulary.items():
        pieces[index] = text.encode() if index in added else _bytes(text, steps)
    special = {index for index, token in added.items() if token.special}
    found = TokenBytes(tuple(pieces), frozenset([*hidden, *special]))
    _prove(found, tokenizer)
    return found


def joined(found: TokenBytes, ids: Sequence[int]) -> bytes:
    """The bytes of a text's tokens, control tokens left out."""
    return b"".join(found.of(token) for token in ids if token not in found.hidden)


def _prove(found: TokenBytes, tokenizer: Tokenizer) -> None:
    for text in _PROBES:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        told = joined(found, ids).decode(errors="replace")
        shown = tokenizer.decode(ids, skip_special_tokens=True)
        if told.removeprefix(" ") != shown.removeprefix(" "):  # some decoders drop the blank before a first word
            raise BytesUnknown(
                f"the bytes of this tokenizer's tokens are not known: {shown!r} would be {told!r}",
                where="tokenizer.json",
                fix="leave logprobs and response_format out, or use a model with a byte-level tokenizer",
            )


def _steps(decoder: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The decoder's parts in order."""
    if not decoder:
        return []
    if decoder["type"] == "Sequence":
        return [step for part in decoder["decoders"] for step in _steps(part)]
    return [decoder]


def _bytes(text: str, steps: Sequence[dict[str, Any]]) -> bytes:
    """Bytes of one token of the vocabulary, step by step as the decoder goes."""
    for step in steps:
        kind = step["type"]
        if kind == "ByteFallback" and (match := _BYTE.fullmatch(text)):
            return bytes([int(match[1], 16)])
        if kind == "Replace" and "String" in step["pattern"]:
            text = text.replace(step["pattern"]["String"], step["content"])
        elif kind == "Metaspace":
            text = text.replace(step.get("replacement", "▁"), " ")
        elif kind == "ByteLevel" and all(letter in _LETTERS for letter in text):
            return bytes(_LETTERS[letter] for letter in text)
    return text.encode()


def _byte_letters() -> dict[str, int]:
    """The letter that byte-level vocabularies write for each byte (GPT-2): itself where it is visible in Latin-1, else
    the next free one from U+0100 on."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    letters = {chr(byte): byte for byte in visible}
    return letters | {chr(0x100 + place): byte for place, byte in enumerate(hidden)}


_LETTERS = _byte_letters()
