"""Dates, times and relative days: 2024-01-02, 2 Jan 2024, 2024年1月2日, 3 pm, 下午3点, yesterday, 昨天."""

from __future__ import annotations

import re
from collections.abc import Hashable
from datetime import date
from functools import lru_cache

from tunewright.core.text.answers import chinese
from tunewright.core.text.answers.plain import plain
from tunewright.serve.cache.guards.spotting import Make, always, spot

_MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july"),
    *("august", "september", "october", "november", "december"),
)
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MONTH = (
    r"(jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)\.?"
)
_DAY = r"(\d{1,2})(?:st|nd|rd|th)?"
_HAN = r"(\d{1,4}|[〇零一二三四五六七八九十]{1,4})"
_DAYPART = r"(凌晨|清晨|早上|上午|中午|下午|傍晚|晚上|今晚)?"
Token = tuple[Hashable, ...]


def dates(text: str) -> tuple[Token, ...]:
    """All of them in order, so that two ways to write one date are one token."""
    return _read(text)[0]


def without_dates(text: str) -> str:
    """The plain text with blanks where dates stood: what is left to read numbers from."""
    return _read(text)[1]


@lru_cache(maxsize=64)
def _read(text: str) -> tuple[tuple[Token, ...], str]:
    found, rest = spot(plain(text), _KINDS)
    return tuple(token for token in found if isinstance(token, tuple)), rest


def _whole(year: str, month: int | None, day: str) -> Token | None:
    """A day that exists."""
    try:
        found = date(_number(year), month or 0, _number(day))
    except ValueError:
        return None
    return ("date", found.year, found.month, found.day)


def _part(year: str | None, month: int | None, day: str | None) -> Token | None:
    known = month is None or 1 <= month <= 12
    return ("date", year and _number(year), month, day and _number(day)) if known else None


def _number(text: str) -> int:
    """Of digits or Chinese numerals, 0 where it is none; years are said digit by digit (二〇二四)."""
    if text.isdigit() and text.isascii():
        return int(text)
    value = chinese.numeral(text)
    return int(value) if value is not None else 0


def _month(name: str) -> int:
    return next(place for place, month in enumerate(_MONTHS, 1) if month.startswith(name.lower()[:3]))


def _slashed(found: re.Match[str]) -> Token | None:
    """03/04/2024 is one day in London and another in New York: it equals only itself."""
    first, second, year = int(found[1]), int(found[2]), found[3]
    if first > 12:
        return _whole(year, second, found[1])
    if second > 12 or first == second:
        return _whole(year, first, found[2])
    return ("unclear date", first, second, int(year))


def _month_alone(found: re.Match[str]) -> Token | None:
    """`may` and `march` are words too: a month has a capital letter or stands behind in, until, last and the like."""
    before = found.string[: found.start()].rstrip().rpartition(" ")[2].lower()
    is_told = before in ("in", "until", "since", "by", "of", "last", "next", "this", "for", "during", "from")
    is_word = found[1].lower() in ("may", "march", "mar", "dec", "sep")
    starts = not found.string[: found.start()].strip() or found.string[: found.start()].rstrip()[-1] in ".?!"
    if is_word and not is_told and (starts or not found[1][0].isupper()):
        return None
    return _part(None, _month(found[1]), None)


def _clock(found: re.Match[str]) -> Token | None:
    hour, minute, half = int(found[1]), int(found[2] or 0), found[3].lower()[0]
    return ("time", hour % 12 + (12 if half == "p" else 0), minute) if hour <= 12 else None


def _han_clock(found: re.Match[str]) -> Token | None:
    hour = _number(found[2])
    is_late = found[1] in ("下午", "傍晚", "晚上", "今晚") or (found[1] == "中午" and hour < 3)
    if hour > 24 or (not found[1] and found[3] is None and found[4] is None):
        return ("time", found[1], hour) if found[1] else None  # 3点 alone may be morning or afternoon
    minute = 30 if found[3] else _number(found[4] or "0")
    return ("time", hour + 12 if is_late and hour < 12 else hour, minute) if found[1] else ("hour", hour, minute)


def _weekday(found: re.Match[str]) -> Token:
    return ("weekday", next(place for place, day in enumerate(_DAYS) if day.startswith(found[1].lower()[:3])))


def _relative(found: re.Match[str]) -> Token:
    step = {"last": -1, "previous": -1, "past": -1, "next": 1, "coming": 1, "following": 1}
    return ("relative", found[2].lower(), step.get(found[1].lower(), 0))


def _han_relative(found: re.Match[str]) -> Token:
    unit = {"周": "week", "星期": "week", "礼拜": "week", "月": "month", "季度": "quarter", "周末": "weekend"}[found[2]]
    return ("relative", unit, {"上": -1, "下": 1}.get(found[1], 0))


def _kind(pattern: str, make: Make) -> tuple[re.Pattern[str], Make]:
    return re.compile(pattern, re.IGNORECASE), make


def _said(unit: str, step: int, *patterns: str) -> tuple[re.Pattern[str], Make]:
    return _kind("|".join(patterns), always(("relative", unit, step)))


_KINDS: tuple[tuple[re.Pattern[str], Make], ...] = (
    _kind(r"(?<!\d)(\d{4})([-/.])(\d{1,2})\2(\d{1,2})(?!\d)", lambda m: _whole(m[1], int(m[3]), m[4])),
    _kind(rf"{_HAN}年{_HAN}月{_HAN}[日号]?", lambda m: _whole(m[1], _number(m[2]), m[3])),
    _kind(rf"\b{_DAY}(?: of)? {_MONTH},? (\d{{4}})\b", lambda m: _whole(m[3], _month(m[2]), m[1])),
    _kind(rf"\b{_MONTH} {_DAY},? (\d{{4}})\b", lambda m: _whole(m[3], _month(m[1]), m[2])),
    _kind(r"(?<!\d)(\d{1,2})[-/.](\d{1,2})[-/.](\d{4})(?!\d)", _slashed),
    _kind(rf"{_HAN}年{_HAN}月", lambda m: _part(m[1], _number(m[2]), None)),
    _kind(rf"\b{_MONTH},? (\d{{4}})\b", lambda m: _part(m[2], _month(m[1]), None)),
    _kind(rf"{_HAN}月{_HAN}[日号]", lambda m: _part(None, _number(m[1]), m[2])),
    _kind(rf"\b{_DAY}(?: of)? {_MONTH}(?![a-z])", lambda m: _part(None, _month(m[2]), m[1])),
    _kind(rf"\b{_MONTH} {_DAY}\b", lambda m: _part(None, _month(m[1]), m[2])),
    _kind(rf"\b{_MONTH}(?![a-z])", _month_alone),
    _kind(rf"(?<!个){_HAN}月(?!份?内)", lambda m: _part(None, _number(m[1]), None)),
    _kind(r"((?:19|20)\d\d|[一二][〇零一二三四五六七八九]{3})年", lambda m: _part(m[1], None, None)),
    _kind(r"\b(\d{1,2})(?::([0-5]\d))?\s?([ap]\.?m\b\.?)", _clock),
    _kind(rf"{_DAYPART}\s?{_HAN}[点时](?:(半)|{_HAN}分?)?", _han_clock),
    _kind(r"(?<![\d:])([01]?\d|2[0-4]):([0-5]\d)(?![\d:])", lambda m: ("time", int(m[1]), int(m[2]))),
    _said("day", -2, r"\bday before yesterday\b", "前天"),
    _said("day", 2, r"\bday after tomorrow\b", "后天"),
    _said("night", -1, r"\blast night\b", r"\byesterday (?:evening|night)\b", "昨[晚夜]", "昨天晚上"),
    _said("night", 0, r"\btonight\b", r"\bthis evening\b", "今[晚夜]", "今天晚上"),
    _said("night", 1, r"\btomorrow (?:evening|night)\b", "明晚", "明天晚上"),
    _said("day", -1, r"\byesterday\b", "昨[天日]"),
    _said("day", 0, r"\btoday\b", "今[天日早]", "当[天日]"),
    _said("day", 1, r"\btomorrow\b", "明[天日早]"),
    _said("year", -2, "前年"),
    _said("year", -1, "去年", "上一?年"),
    _said("year", 0, "今年", "本年"),
    _said("year", 1, "明年"),
    _said("year", 2, "后年"),
    _kind(r"(上|下|这|本)一?个?(周末|周|星期|礼拜|月|季度)", _han_relative),
    _kind(
        r"\b(last|previous|past|this|current|next|coming|following) (week|weekend|month|quarter|year)s?\b", _relative
    ),
    _kind(
        r"(?:周|星期|礼拜)([一二三四五六日天])(?![个年期])", lambda m: ("weekday", "一二三四五六日天".index(m[1]) % 7)
    ),
    _kind(rf"\b({'|'.join(_DAYS)})s?\b", _weekday),
    _kind(r"\b(last|next|coming|previous)(?= )", lambda m: ("relative", "", m[1].lower())),
    _kind(r"\bago\b|(?<=[天日周月年时钟秒期])(?:之|以)?前", always(("ago",))),
    _kind(r"(?<=[天日周月年时钟秒期])(?:之|以)?后", always(("later",))),
)
