"""What turns a question round: negation, and who is meant."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable

from tunewright.core.text.fold import fold
from tunewright.serve.cache.guards.spotting import always, spot

_EN_NEGATION = {
    "without": r"\bwithout\b|\bw/o\b",
    "unless": r"\bunless\b",
    "except": r"\bexcept(?:ing)?\b|\bexclud(?:e|es|ed|ing)\b|\bother than\b|\binstead of\b|\brather than\b",
    "never": r"\bnever\b",
    "no": r"\bno\b|\bnone\b|\bnobody\b|\bno one\b|\bnothing\b|\bnowhere\b|\bneither\b|\bnor\b",
    "not": r"\bnot\b|n['’]t\b|\bcannot\b"
    r"|\b(?:dont|doesnt|didnt|isnt|arent|cant|wont|couldnt|shouldnt|wasnt|havent|hasnt)\b",
    "unable": r"\bunable\b|\bimpossible\b",
    "hardly": r"\bhardly\b|\bbarely\b|\brarely\b|\bseldom\b|\bscarcely\b",
    "fail": r"\bfail(?:s|ed|ing|ure)?\b|\black(?:s|ed|ing)?\b|\bmissing\b",
    "avoid": r"\bavoid(?:s|ed|ing)?\b|\bprevent(?:s|ed|ing)?\b|\brefus(?:e|es|ed|ing)\b|\bden(?:y|ies|ied)\b"
    r"|\bdeclin(?:e|es|ed|ing)\b|\breject(?:s|ed|ing)?\b|\bstop(?:s|ped|ping)?\b|\bforbid(?:s|den)?\b",
}
_NOT_NEGATION = (
    r"非常|特别|分别|级别|类别|性别|区别|个别|别墅|别人|非洲|是否|能否|可否|差不多|对不起|不好意思|无论|不论|不仅|不但"
    r"|有没有|([^\W\d_a-zA-Z还])不\1"
)
"""Words with such a character that deny nothing, and questions of the form 能不能; 还不还 and 还没还 may deny
(still not repaid), so they are none of them."""
_HAN_NEGATION = {
    "unless": "除非",
    "except": "除了|除外|以外|之外",
    "avoid": "禁止|拒绝|避免|防止|阻止|驳回|不准|不许",
    "fail": "失败|缺少|缺乏",
    "none": "没有|没|未|无",
    "do not": "别|勿|莫|甭",
    "not": "不|否",
    "non": "非",
}
_NEGATIONS = [
    (re.compile(_NOT_NEGATION), always("")),
    *((re.compile(rule, re.IGNORECASE), always(name)) for name, rule in _EN_NEGATION.items()),
    *((re.compile(rule), always(name)) for name, rule in _HAN_NEGATION.items()),
]


def negations(text: str) -> Counter[Hashable]:
    """How often each kind stands in the text: a question and its negation differ, and so do two denials and none."""
    found, _ = spot(fold(text).text, _NEGATIONS)
    return Counter(name for name in found if name)


_PERSONS = {
    "you": r"\byours?\b|你的|您的|你们的",
    "he": r"\b(?:he|him|his)\b|他(?!们|人)",
    "she": r"\b(?:she|hers?)\b|她(?!们)",
    "they": r"\b(?:they|them|theirs?)\b|他们|她们|他人|别人",
    "someone": r"\bsomeone\b|\bsomebody\b|\banother\b|\bother people\b|某人",
}
_WHO = [(re.compile(rule, re.IGNORECASE), always(name)) for name, rule in _PERSONS.items()]


_ROLES = [
    (re.compile(r"\b(?:i|me|my|mine|we|us|our)\b|我|咱", re.IGNORECASE), always("I")),
    (re.compile(r"\byou(?:rs?)?\b|你|您", re.IGNORECASE), always("you")),
]


def roles(text: str) -> tuple[Hashable, ...]:
    """The one who asks and the one who is asked, in the order in which they first stand."""
    return tuple(dict.fromkeys(spot(fold(text).text, _ROLES)[0]))


def persons(text: str) -> frozenset[Hashable]:
    """Who is meant beside the one who asks, who is meant anyway."""
    return frozenset(spot(fold(text).text, _WHO)[0])
