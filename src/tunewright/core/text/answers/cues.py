"""The words that announce a final answer, Chinese and English."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tunewright.core.text.answers.context import CURRENCY

_IS = (
    r"(?:\s*\([^()\n]{0,40}\))?(?:\s*(?:is|was|are|=|:|\||equals?(?: to)?|(?:would|should|will|must|could|might"
    r"|may|can)(?: also)? be"
    r"|has to be|comes (?:out )?to(?: be)?"
    r"|turns out to be|becomes))"
)
_BE = r"(?:\s*\([^()\n]{0,40}\))?(?:应该|应当|应|就|便|将|会|大概|大约|可能|也许)*(?:是|为|等于|:|=|\|)"
_STRONGEST = re.compile(
    rf"(?:最终|最后|正确|标准)的?(?:答案|结果|得数)(?:{_BE})?"
    rf"|(?:所以|因此|故而?|综上(?:所述)?|于是|那么)\s*[,，:]?\s*(?:这道题|本题|该题|题目|问题|我们的?|它)?的?答案{_BE}"
    rf"|\b(?:final|correct|right) (?:numerical |numeric )?(?:answer|result|value)\b(?:{_IS})?"
    rf"|\b(?:so|therefore|thus|hence|consequently)\s*,?\s*(?:the|our|my|your)\s+answer\b(?:\s+(?:to"
    rf"|for)\b[^.\n?]{{0,80}}?)?{_IS}",
    re.IGNORECASE,
)
_STRONG = re.compile(
    rf"答案\s*{_BE}|答案\s*(?=[-\d$¥\"]|负)|答案\s*\n"
    rf"|\banswer\b(?:\s+(?:to|of|for)\b[^.\n?]{{0,80}}?)?{_IS}|\banswer\s*\n|\banswer\s+(?=[-$¥]?\d)|\banswer of\b"
    r"|\bans\b\.?\s*[:=]?",
    re.IGNORECASE,
)
REPLY = re.compile(r"(?m)(?<![\u4e00-\u9fff])(?:答|解答)\s*[:,]|(?:^|(?<=[.!?。]))[ \t]*A\s?:(?!.*\n?\s*B\s?[:.)])")
"""A sentence follows, not the number alone: 答：5个小组一共有40人。"""
REVERSED = re.compile(
    r"(?:\s?[A-Za-z°]{1,12}|[\u4e00-\u9fff]{1,3}?)?\s*[,\"]?\s*(?:就是|便是|即为|即是|正是|是|为|\bis\b|\bwas\b)\s*"
    r"(?:the|our|my|your|我们的?|本题的?|这道题的?|题目的?)?\s*(?:final |correct |right |正确的?|最终的?|最后的?)?"
    r"(?:answer\b|答案|所求)",
    re.IGNORECASE,
)
GAP = re.compile(
    rf"(?:[^\w。!?;；]|{CURRENCY}|是|为|:|约|大约|大概|一共|总共|共计?|有|即|整|就|应该|就是|等于|还剩|剩下|分别"
    r"|\b(?:about|approximately|exactly|just|only|simply|roughly|around|a total of|clearly|equal to|now|thus)\b"
    r"|\b[a-zA-Z]\s?=)*",
    re.IGNORECASE,
)


def cues(text: str) -> Iterator[tuple[int, int, int]]:
    """(strength, start, end) of announcing words, in order, each place once.

    Strength 2: `final answer`; 1: `answer`.
    """
    found = [(2, cue.start(), cue.end()) for cue in _STRONGEST.finditer(text)]
    found += [(1, cue.start(), cue.end()) for cue in (*_STRONG.finditer(text), *REPLY.finditer(text))]
    covered = 0
    for strength, start, end in sorted(found, key=lambda cue: (cue[1], -cue[0])):
        if start >= covered:
            yield strength, start, end
            covered = end
