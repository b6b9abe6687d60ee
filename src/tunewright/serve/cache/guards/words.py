"""Words of a question: which carry content, their bare form, and the language they are in."""

from __future__ import annotations

import re
from functools import cache
from typing import Literal

from tunewright.core.text.fold import fold

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_HAN = re.compile(f"[{HAN}]")
_OTHER_SCRIPT = re.compile(r"[\u0370-\u1fff\u3040-\u30ff\uac00-\ud7af]")
"""Greek, Cyrillic, Arabic and the like, kana, hangul."""
_WORD = re.compile(r"[A-Za-z]+(?:['’][A-Za-z]+)?|\d+(?:[.,]\d+)*")
ENGLISH_SHARE = 0.3
"""A text in Latin letters is English when at least this share of its words are English function words."""
_FUNCTION_WORDS = """a an the this that these those there here it its it's i i'm i've i'd i'll me my mine myself we us
    our ours you your yours yourself he him his she her hers they them their theirs one is isn't are aren't am was
    wasn't were weren't be been being do does did done don't doesn't didn't doing have has had haven't hasn't hadn't
    having can can't cannot could couldn't will won't would wouldn't shall should shouldn't may might must mustn't
    need needn't ought to of in on at by for with from into about as and or but so if then than because while when
    where who whom whose what what's which why how how's when's where's who's not no never without unless nor neither
    please kindly thanks thank hello hi hey dear tell know explain say ask question just also too very really actually
    exactly now again like want wanted wish let get got there's that's"""
FUNCTION = frozenset(_FUNCTION_WORDS.split())
_FUNCTION_HAN = re.compile(
    "请问一下|麻烦|请问|请|您好|你好|谢谢|告诉|知道|想要|想问|想|应该|怎么办|怎么样|怎么|怎样|如何|什么时候|为什么|为何"
    "|什么|哪里|哪儿|在哪|哪个|多少|是否|可不可以|能不能|能否|可否|可以|能够|需不需要|是不是|有没有|需要|我们|你们|咱们"
    "|我|你|您|咱|的|得|了|着|过|吗|呢|吧|啊|呀|嘛|么|是|有|在|就|也|会|要|能|把|那|这|个|请"
)
_ENDINGS = re.compile(r"(?:(?<=[a-z]{3})(?:ing|ed|es|s|e|ly))$")


def language(text: str) -> Literal["en", "zh"] | None:
    """None for what the guards cannot read."""
    folded = fold(text).text
    if _OTHER_SCRIPT.search(folded):
        return None
    if _HAN.search(folded):
        return "zh"
    words = _words(folded)
    if not words or any(letter.isalpha() and not letter.isascii() for letter in folded):
        return None
    share = sum(word in FUNCTION for word in words) / len(words)
    return "en" if share >= ENGLISH_SHARE else None


def content(text: str) -> tuple[str, ...]:
    """What is left of a question without the words that only hold it together: English words in their bare form, Han
    characters one by one, in order."""
    folded = fold(text).text
    if not _HAN.search(folded):
        return tuple(bare(word) for word in _words(folded) if word not in FUNCTION)
    left = _FUNCTION_HAN.sub(" ", folded)
    return tuple(part.lower() for part in re.findall(f"[{HAN}]|{_WORD.pattern}", left))


def frame(text: str) -> tuple[str, ...]:
    """The words that hold a question together, in order, articles apart: what `content` leaves out."""
    folded = fold(text).text
    if _HAN.search(folded):
        return tuple(found[0] for found in _FUNCTION_HAN.finditer(folded))
    return tuple(word for word in _words(folded) if word in FUNCTION and word not in ("a", "an", "the"))


@cache
def bare(word: str) -> str:
    """The word without its ending, roughly: transfers, transferred and transferring are one."""
    word = word.removesuffix("'s")
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    stem = _ENDINGS.sub("", word)
    is_doubled = len(stem) > 3 and stem != word and stem[-1] == stem[-2] and stem[-1] not in "lse"
    return stem[:-1] if is_doubled else stem


def _words(text: str) -> list[str]:
    return [word.lower().replace("’", "'") for word in _WORD.findall(text)]
