"""Names: quoted texts, codes, addresses, capitalised words, Latin words between Chinese ones."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tunewright.core.text.fold import fold
from tunewright.serve.cache.guards.words import FUNCTION, HAN

_QUOTED = re.compile(r"《([^》]+)》|“([^”]+)”|「([^」]+)」|『([^』]+)』|\"([^\"]+)\"|(?<!\w)['‘]([^'’]+)['’](?!\w)")
_TOKEN = re.compile(
    r"https?://\S+|www\.\S+|[\w.+-]+@[\w-]+\.[\w.-]+|[@#]\w+|\d{1,3}(?:,\d{3})+(?:\.\d+)?"
    r"|(?:[A-Za-z]:)?(?:[/\\][\w.-]+){2,}"
    r"|[A-Za-z0-9]+(?:[-_.'’&/][A-Za-z0-9]+)*[+#]*",
    re.ASCII,
)
_SENTENCE_END = re.compile(r"(?:^|[.!?:;\n。！？：；]|[.!?]['\"”])\s*[\"'“(]*$")
_STARTER_WORDS = """give show help list write describe compare find make use try which
    any some every all each only after before during since until between under over once first next last today yesterday
    tomorrow yes ok okay sorry good morning afternoon evening dear"""
_STARTERS = FUNCTION | frozenset(_STARTER_WORDS.split())
"""Words that begin a sentence with a capital and name nobody."""


def quoted(text: str) -> tuple[str, ...]:
    """What stands in quotation marks or 《》, in order."""
    return tuple(next(part for part in found.groups() if part).strip().casefold() for found in _QUOTED.finditer(text))


def names(text: str) -> tuple[str, ...]:
    """In order and in small letters: words with a capital inside a sentence, or at its beginning when they are no usual
    beginning; codes, addresses, long or zero-led digits; every Latin word of a Chinese text."""
    folded = fold(text).text
    is_chinese = re.search(f"[{HAN}]", folded) is not None
    return tuple(
        found[0].casefold().replace("’", "'").removesuffix("'s")
        for found in _TOKEN.finditer(folded)
        if _is_name(found, folded, is_chinese=is_chinese)
    )


def _is_name(found: re.Match[str], text: str, *, is_chinese: bool) -> bool:
    word = found[0].replace("’", "'")
    if word.isdigit():
        return len(word) >= 7 or (word[0] == "0" and len(word) > 1)
    if not word[0].isalnum() or "@" in word or "://" in word or "+" in word or "#" in word:
        return True
    if is_chinese:
        return True
    is_number = re.fullmatch(r"[\d.,/:-]+(?:st|nd|rd|th|k|am|pm)?", word, re.IGNORECASE) is not None
    if any(map(str.isdigit, word)):
        return not is_number
    if word in ("I", "I'm", "I've", "I'd", "I'll"):
        return False
    if any(map(str.isupper, word[1:])):
        return True
    if not word[0].isupper():
        return False
    return not (_SENTENCE_END.search(text[: found.start()]) and word.lower() in _STARTERS)


def tokens(text: str) -> tuple[str, ...]:
    """All words and codes in small letters."""
    folded = fold(text).text
    return tuple(found[0].casefold().replace("’", "'").removesuffix("'s") for found in _TOKEN.finditer(folded))


def are_named(wanted: Sequence[str], there: Sequence[str]) -> bool:
    """Whether all of `wanted` stand in `there` in the same order: `from Ann to Bob` is not `from Bob to Ann`."""
    rest = iter(there)
    return all(name in rest for name in wanted)
