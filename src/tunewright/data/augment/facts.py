"""What a rewording must keep: numbers, amounts, dates, codes, placeholders, addresses and quoted text, as facts.

Each part of a text belongs to one fact: a pattern that was found is blanked before the next kind is looked for, so the
digits of an order number are no number, and those of a date no amount.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

from tunewright.data.augment.numerals import Number, han_value, numbers

_BLANK = "\x00"
_MENTIONS = {
    "CNY": "人民币|yuan|cny|rmb",
    "USD": "美元|美金|dollars?|usd",
    "EUR": "欧元|euros?|eur",
    "GBP": "英镑|pounds?|gbp",
    "JPY": "日元|yen|jpy",
    "HKD": "港币|港元|hkd",
}
"""Names that say a currency without an amount too."""
_SIGNS = {"CNY": "块钱|元|块|¥", "USD": r"us\$|\$", "EUR": "€", "GBP": "£", "HKD": r"hk\$"}
_CURRENCIES = {code: "|".join(filter(None, [names, _SIGNS.get(code)])) for code, names in _MENTIONS.items()}
_LETTERED = r"(?![A-Za-z])"
_AFTER = [
    *(("AMOUNT", code, re.compile(rf"\s*(?:{names}){_LETTERED}", re.I)) for code, names in _CURRENCIES.items()),
    ("PERCENT", "%", re.compile(r"\s*(?:%|percent\b|per\s+cent\b)", re.I)),
    ("DATE", "am", re.compile(r"\s*a\.?m\b\.?", re.I)),
    ("DATE", "pm", re.compile(r"\s*p\.?m\b\.?", re.I)),
]
_MENTIONED = [(code, re.compile(rf"(?<![A-Za-z])(?:{names}){_LETTERED}", re.I)) for code, names in _MENTIONS.items()]
_BEFORE = [(code, re.compile(rf"(?:{names})\s*$", re.I)) for code, names in _CURRENCIES.items()]
_DAYS = "一二三四五六日"
_HAN_DAY = "[〇一二三四五六七八九十]{1,3}"
_ORDINAL_WORDS = ("second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_ORDINALS = {word: value for value, word in enumerate(_ORDINAL_WORDS, 2)}
_MONTHS = (
    "january|february|march|april|june|july|august|september|october|november|december|"
    "jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec"
)
_WEEKDAYS = "monday|tuesday|wednesday|thursday|friday|saturday|sunday"


@dataclass
class Facts:
    """counts: of (kind, value); shown: how a fact is written in the text."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    shown: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, kind: str, value: str, shown: str) -> None:
        """Counts one."""
        self.counts[kind, value] += 1
        self.shown.setdefault((kind, value), shown.strip())


def _verbatim(match: re.Match[str]) -> str:
    return match[0]


def _inner(match: re.Match[str]) -> str:
    return next(group for group in match.groups() if group is not None).strip()


def _trimmed(match: re.Match[str]) -> str:
    return match[0].rstrip(".,;:!?)").lower()


def _date(match: re.Match[str]) -> str:
    return "-".join(str(int(part)) if part.isdigit() else str(han_value(part)) for part in match.groups() if part)


def _weekday(match: re.Match[str]) -> str:
    return f"{(match[1] or '').replace('这', '本')}weekday{_DAYS.index(match[2].replace('天', '日')) + 1}"


def _relative(match: re.Match[str]) -> str:
    word = re.sub("个|的", "", match[0].lower()).replace("这", "本")
    return " ".join(re.sub("礼拜|星期", "周", word).replace("日", "天").split())


_Rule = tuple[str, re.Pattern[str], Callable[[re.Match[str]], str]]
_PATTERNS: list[_Rule] = [
    ("CODE", re.compile(r"```.*?```|`[^`\n]+`", re.S), _verbatim),
    ("PLACEHOLDER", re.compile(r"<[^<>\s][^<>\n]{0,60}>|\{\{[^{}\n]+\}\}|\$?\{[A-Za-z_][\w.]*\}"), _verbatim),
    ("PLACEHOLDER", re.compile(r"\[[A-Z][A-Z0-9_]+\]|%[sd]\b|%\(\w+\)[sd]"), _verbatim),
    (
        "QUOTE",
        re.compile(r"“([^”\n]*)”|\"([^\"\n]*)\"|「([^」\n]*)」|『([^』\n]*)』|《([^》\n]*)》|(?<!\w)'([^'\n]+)'(?!\w)"),
        _inner,
    ),
    ("EMAIL", re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+", re.A), _trimmed),
    ("URL", re.compile(r"(?:https?://|www\.)[^\s\u3000-\u303f\u4e00-\u9fff<>\"'\x00]+", re.I), _trimmed),
    (
        "URL",
        re.compile(r"\b[a-z0-9-]+(?:\.[a-z0-9-]+)*\.(?:com|cn|org|net|io|gov|edu)\b(?:/[\w./-]*)?", re.I | re.A),
        _trimmed,
    ),
    ("DATE", re.compile(r"(?<!\d)(\d{4})\s*[-/.年]\s*(\d{1,2})\s*[-/.月]\s*(\d{1,2})(?!\d)[日号]?"), _date),
    ("DATE", re.compile(rf"(?<!\d)(\d{{1,2}}|{_HAN_DAY})月(\d{{1,2}}|{_HAN_DAY})[日号]"), _date),
    ("DATE", re.compile(r"(?<!\d)\d{1,2}/\d{1,2}/\d{2,4}(?!\d)|(?<!\d)\d{1,2}:\d{2}(?::\d{2})?(?!\d)"), _verbatim),
    ("DATE", re.compile(r"([上下这本])?个?(?:周|星期|礼拜)([一二三四五六日天])"), _weekday),
    (
        "DATE",
        re.compile(r"[上下这本](?:一?个)?(?:周|星期|礼拜|月|季度)(?!末)|[今明昨][天日]|[前后]天|[今去明前]年"),
        _relative,
    ),
    ("DATE", re.compile(r"\b(?:today|tomorrow|yesterday|tonight)", re.I), _relative),
    (
        "DATE",
        re.compile(r"\b(?:last|next|this|previous|coming)\s+(?:week|month|year|night|quarter)\b", re.I),
        _relative,
    ),
    ("DATE", re.compile(rf"\b(?:{_WEEKDAYS})", re.I), _relative),
    ("DATE", re.compile(rf"\b(?:{_MONTHS})\b", re.I), lambda match: match[0].lower()[:3]),
    ("DATE", re.compile(r"(?<=[a-z,] )May\b|\bMay(?= \d)"), lambda match: match[0].lower()),
    ("NUMBER", re.compile(r"(?<![\w.])(\d+)(?:st|nd|rd|th)\b", re.I | re.A), lambda match: match[1]),
    ("NUMBER", re.compile(rf"\b(?:{'|'.join(_ORDINALS)})\b", re.I), lambda match: str(_ORDINALS[match[0].lower()])),
    ("CODE", re.compile(r"(?<![\w-])\+?\d+(?:-\d+)+(?![\w-])", re.A), _verbatim),
    ("CODE", re.compile(r"(?<![\w.,-])(?:\d{8,}|0\d{2,})(?![\w.-])", re.A), _verbatim),
]
_CODE = re.compile(r"[A-Za-z0-9]+(?:[-_/][A-Za-z0-9]+)*", re.A)
_SUFFIXED = re.compile(r"\d+(?:-[a-z]+)+|\d+(?:am|pm|usd|cny|rmb|eur|gbp|hkd|jpy|yuan|k)", re.I)


def facts(text: str) -> Facts:
    """The facts of `text`, which is brought to NFKC first (１２ is 12, ％ is %)."""
    found = Facts()
    rest = unicodedata.normalize("NFKC", text)
    for kind, pattern, canonical in _PATTERNS:
        rest = _take(rest, pattern, kind, canonical, found)
    rest = _take_codes(rest, found)
    rest = _take_numbers(rest, found)
    for code, pattern in _MENTIONED:
        for match in pattern.finditer(rest):
            found.add("CURRENCY", code, match[0])
    return found


def _take(
    text: str, pattern: re.Pattern[str], kind: str, canonical: Callable[[re.Match[str]], str], found: Facts
) -> str:
    for match in pattern.finditer(text):
        found.add(kind, canonical(match), match[0])
        text = text[: match.start()] + _BLANK * len(match[0]) + text[match.end() :]  # as long as before
    return text


def _take_codes(text: str, found: Facts) -> str:
    """Words that mix letters with digits, or are joined by underscores: order numbers, ids, model names."""

    def blanked(match: re.Match[str]) -> str:
        word = match[0]
        is_mixed = any(letter.isdigit() for letter in word) and any(letter.isalpha() for letter in word)
        if not (is_mixed or "_" in word) or _SUFFIXED.fullmatch(word):
            return word
        found.add("CODE", word, word)
        return _BLANK * len(word)

    return _CODE.sub(blanked, text)


def _take_numbers(text: str, found: Facts) -> str:
    rest = list(text)
    text = re.sub(r"百分之(?=[\d〇一二三四五六七八九十])", "\x01" * 4, text)
    for number in numbers(text):
        kind, value, start, end = _unit(text, number)
        found.add(kind, value, "".join(rest[start:end]))
        rest[start:end] = _BLANK * (end - start)
    return "".join(rest)


def _unit(text: str, number: Number) -> tuple[str, str, int, int]:
    """(kind, value with its unit, start, end) of a number in its place."""
    value = _plain(number.value)
    before = text[max(0, number.start - 6) : number.start]
    if before.endswith("\x01"):
        return "PERCENT", value, number.start - 4, number.end
    for kind, unit, pattern in _AFTER:
        if match := pattern.match(text, number.end):
            return kind, value if kind == "PERCENT" else f"{value} {unit}", number.start, match.end()
    for code, pattern in _BEFORE:
        if match := pattern.search(before):
            return "AMOUNT", f"{value} {code}", number.start - len(match[0]), number.end
    return "NUMBER", value, number.start, number.end


def _plain(value: Fraction) -> str:
    return str(value)
