"""Ids of a text from those of its words, each encoded once and remembered.

Exact where the tokenizer cuts a text into words by a known pattern before anything else, and encodes each by itself:
byte-level BPE without a normalizer, as GPT-2, SmolLM2, Llama 3 and Qwen2 have it. Only ASCII texts are cut here, for
which Python's `re` and the tokenizer's own engine mean the same by the pattern; all others go to the tokenizer.
"""

from __future__ import annotations

import json
import re
from typing import Any, Protocol

from tokenizers import Tokenizer

_GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+"
"""The pattern of `ByteLevel(use_regex=True)` for ASCII."""
_PIECE = re.compile(r"\\p\{[A-Z]\}|\\.|\(\?[a-z]*[:!=]?|\[\^?|.", re.DOTALL)
_KNOWN = {r"\s", r"\S", r"\r", r"\n", r"\t", r"\.", r"\-", r"\/", "(?i:", "(?:", "(?!", "(?="}
"""Escapes and groups that mean the same in both engines."""
_CLASSES = {r"\p{L}": "A-Za-z", r"\p{N}": "0-9"}
_RUN = re.compile(" ?(?:[A-Za-z]+|[0-9]+)")
"""Words that a pattern which cut them out leaves whole."""
_LONGEST_NUMBER = 6
"""Longer ones rarely come again."""
_PROBES = (
    "I'll say: it's 12345 euros (37.5%)!  Two  spaces,\ttab\n\nnew line \n x\r\n'tis #1 can't WE'RE  ",
    "a_b-c.d@e.f/g?h=i&j 007 x86 3rd  \n\n  indent {\"k\": [1, 2]} ''' ... --- '' 's S's 1's \x1c\x00\x7f",
)


class Memory(Protocol):
    """Where ids of words are remembered."""

    newest: dict[str, list[int]]

    def get(self, text: str, /) -> list[int] | None: ...

    def put(self, text: str, value: list[int], /) -> list[int]: ...


class Words:
    """The words of one tokenizer. come_back: whether `ids` gives only ids that decode to the text."""

    def __init__(self, tokenizer: Tokenizer, pattern: re.Pattern[str], memory: Memory) -> None:
        self._tokenizer, self._cut, self._memory = tokenizer, pattern.findall, memory
        self.come_back, self._letters = _joins(tokenizer.decoder), _letters(tokenizer)

    def ids(self, text: str) -> list[int] | None:
        """The ids of a text that holds no added token; None where it has to be encoded as a whole."""
        if not text.isascii():
            return None
        ids: list[int] = []
        known = self._memory.newest
        words = self._cut(text)
        for word in words:
            found = known.get(word) or self._encoded(word)
            if not found:
                return None
            ids += found
        return ids if len("".join(words)) == len(text) else None

    def _encoded(self, word: str) -> list[int]:
        """The ids of a word; none where the tokenizer would cut it again, or it is no plain byte-level text."""
        found = self._memory.get(word)
        if found is not None:
            return found
        if not self._letters.issuperset(word):
            return []
        if not _RUN.fullmatch(word) and len(self._tokenizer.pre_tokenizer.pre_tokenize_str(word)) != 1:
            return []
        ids = list(self._tokenizer.encode(word, add_special_tokens=False).ids)
        return ids if len(word) > _LONGEST_NUMBER and word[-1].isdigit() else self._memory.put(word, ids)


def _letters(tokenizer: Tokenizer) -> frozenset[str]:
    """The ASCII characters that are tokens of their own and come back: BPE only joins tokens, so that texts of them
    come back as well."""
    found = set()
    for letter in map(chr, range(128)):
        ids = list(tokenizer.encode(letter, add_special_tokens=False).ids)
        is_byte = any((tokenizer.id_to_token(one) or "").startswith("<0x") for one in ids)
        if len(ids) == 1 and not is_byte and tokenizer.decode(ids, skip_special_tokens=False) == letter:
            found.add(letter)
    return frozenset(found)


def words_of(tokenizer: Tokenizer, memory: Memory) -> Words | None:
    """The words of a tokenizer that is known to encode them one by one; None for any other."""
    if tokenizer.pre_tokenizer is None or not _is_plain_bpe(tokenizer):
        return None
    pattern = _pattern(_parts(tokenizer.pre_tokenizer, "pretokenizers"))
    if pattern is None:
        return None
    if any(pattern.findall(text) != _own(tokenizer, text) for text in _PROBES):
        return None
    return Words(tokenizer, pattern, memory)


def _is_plain_bpe(tokenizer: Tokenizer) -> bool:
    """BPE in which nothing happens before or between words."""
    normalizer = tokenizer.normalizer
    does_nothing = normalizer is None or _parts(normalizer, "normalizers") == []
    return does_nothing and type(tokenizer.model).__name__ == "BPE" and not tokenizer.model.dropout


def _joins(decoder: Any) -> bool:
    """Whether a text is decoded byte by byte, so that words that come back alone come back together: byte level, also
    behind the steps for `<0x0A>` and for U+2581 that tokenizers out of GGUF files have and such ids do not need."""
    names = [part["type"] for part in _parts(decoder, "decoders")] if decoder is not None else []
    return names in (["ByteLevel"], ["ByteFallback", "Fuse", "Replace", "ByteLevel"])


def _parts(part: Any, name: str) -> list[dict[str, Any]]:
    described = json.loads(part.__getstate__())
    return list(described[name]) if described["type"] == "Sequence" else [described]


def _pattern(pre_tokenizer: list[dict[str, Any]]) -> re.Pattern[str] | None:
    """How the tokenizer cuts ASCII texts; None where that is not known."""
    *before, last = pre_tokenizer
    if len(before) > 1 or last["type"] != "ByteLevel" or last["add_prefix_space"] or last["use_regex"] == bool(before):
        return None
    if not before:
        return re.compile(_GPT2, re.ASCII)
    split = before[0]
    is_known = split["type"] == "Split" and split["behavior"] == "Isolated" and "Regex" in split["pattern"]
    return _translated(split["pattern"]["Regex"]) if is_known else None


def _translated(source: str) -> re.Pattern[str] | None:
    r"""The pattern with `\p{L}` and `\p{N}` as ASCII classes; None where it holds anything else that Python may
    read in another way: other properties, anchors, named or atomic groups."""
    pieces = _PIECE.findall(source)
    translated, is_class = "", False
    for piece, following in zip(pieces, [*pieces[1:], ""], strict=True):
        if piece in _CLASSES:
            piece = _CLASSES[piece] if is_class else f"[{_CLASSES[piece]}]"
        elif piece == "(" and not is_class:
            piece = "(?:"  # findall gives whole matches only where nothing is captured
        elif piece in ("[", "[^"):
            if is_class or following == "]":
                return None
            is_class = True
        elif piece == "]":
            is_class = False
        elif (len(piece) > 1 and piece not in _KNOWN) or (piece in "^$" and not is_class) or piece == "&" == following:
            return None
        translated += piece
    try:
        return re.compile(translated, re.ASCII)
    except re.error:
        return None


def _own(tokenizer: Tokenizer, text: str) -> list[str]:
    """The tokenizer's own words of a text."""
    return [text[start:end] for _, (start, end) in tokenizer.pre_tokenizer.pre_tokenize_str(text)]
