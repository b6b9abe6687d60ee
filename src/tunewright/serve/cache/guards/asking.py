"""What is asked for: how, when, who, where, why, how many; 怎么, 什么时候, 谁, 哪里, 为什么, 多少."""

from __future__ import annotations

import re
from collections.abc import Hashable

from tunewright.core.text.fold import fold
from tunewright.serve.cache.guards.spotting import always, spot

_KINDS = {
    "why": r"\bwhy\b|\bhow come\b|\bfor what reason\b|\bwhat for\b|为什么|为何|为啥|怎么会|怎么还没|什么原因"
    r"|凭什么|干嘛",
    "when": r"\bwhen\b|\b(?:what|which) (?:time|day|date|month|year)\b"
    r"|什么时候|什么时间|何时|几点|几号|哪天|哪一天|啥时候",
    "how long": r"\bhow long\b|多久|多长时间|几天|几个月|几年|几小时|几个小时|多少天|多少时间",
    "how often": r"\bhow (?:often|frequently|many times)\b|多少次|几次|多久一次",
    "how far": r"\bhow (?:far|big|large|old|tall|high|deep|wide|heavy|fast)\b|多远|多大|多高|多重|多快|多深|多宽",
    "amount": r"\bhow (?:much|many)\b|\bwhat (?:amount|number)\b|多少|几(?=[个张次位人块元家种])",
    "where": r"\bwhere\b|\b(?:in|at) (?:what|which) place\b|哪里|哪儿|何处|什么地方|在哪|去哪|哪家",
    "who": r"\bwho(?:m|se)?\b|谁|哪位|什么人",
    "how": r"\bhow\b|\bwhat(?:'s| is| are) the (?:best |right |correct |easiest )?(?:ways?|steps?|process|procedure)"
    r" (?:to|for|of)\b"
    r"|怎么样|怎么办|怎么|怎样|如何|咋",
    "which": r"\bwhich\b|哪个|哪些|哪种|哪一|哪",
    "what": r"\bwhat\b|什么|啥",
    "whether": r"(?:^|[.!?,]\s*)(?:can|could|do|does|did|is|are|am|was|were|will|would|should|may|must|have|has)\b"
    r"|\bwhether\b|吗|([\u4e00-\u9fff])不\1|有没有|是否|能否|可否",
}
_ORDER = [(re.compile(rule, re.IGNORECASE), always(name)) for name, rule in _KINDS.items()]
_LEAD = r"(?:^|[.!?,;]\s*|\bwhether (?:\w+ )?)"
_MODES = {
    "can": rf"{_LEAD}(?:can|could|may|might)\b|可以|可不可以|可否|能",
    "will": rf"{_LEAD}(?:will|would|shall)\b|会",
    "should": rf"{_LEAD}should\b|应该|应当|该",
    "must": rf"{_LEAD}must\b|要|必须",
    "was": rf"{_LEAD}(?:did|was|were|have|has|had)\b|[了过]",
    "is": rf"{_LEAD}(?:do|does|is|are|am)\b",
}
"""What a question that is answered by yes or no asks about: `can I pay` is not `did I pay`."""
_MODE_ORDER = [(re.compile(rule, re.IGNORECASE), always(("whether", name))) for name, rule in _MODES.items()]


def asked_for(text: str) -> frozenset[Hashable]:
    """The kinds of answer that are asked for. Whether something is so counts where nothing else is asked, since
    `can you tell me how` asks how."""
    plain = fold(text).text.strip().replace("’", "'")
    found = frozenset(spot(plain, _ORDER)[0])
    return found - {"whether"} or (found and frozenset(spot(plain, _MODE_ORDER)[0]) | found)
