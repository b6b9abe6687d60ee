"""Numbers and what they count: 1,000, 三千, 5%, half, the second; euros, 元, days, kilograms."""

from __future__ import annotations

import re
from collections.abc import Hashable
from itertools import groupby

from tunewright.core.text.answers import chinese
from tunewright.core.text.answers.numbers import scan
from tunewright.serve.cache.guards.dates import without_dates
from tunewright.serve.cache.guards.spotting import always, spot

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_ORDINAL = re.compile(
    rf"\b(?:(\d+)(?:st|nd|rd|th)|({'|'.join(_ORDINALS)}))\b|第([\d{chinese.LETTERS}]+)", re.IGNORECASE
)
_TIMES = re.compile(
    r"\b(half|quarter|once|twice|thrice|single|double|triple|dozens?|pair|couple|several|few|many)\b", re.I
)
_NO_COUNT = re.compile(
    "一(?=[下些样般直定起共切旦边致会点])|(?<=[统唯同每任逐])一|万一|十分(?![之钟])|千万(?=[别不要])|有没有一"
    "|四舍五入|三方|百分之百分"
)
"""Numerals inside words that count nothing."""
_LEFT = re.compile(rf"[<>=≤≥≠≈+*×÷^√]|\d+|[{chinese.LETTERS}几]+")
_MINUS = re.compile(r"(?:(?<![A-Za-z0-9])-|\b(?:minus|negative)\s|负|零下)\s?$", re.IGNORECASE)


def numbers(text: str) -> tuple[Hashable, ...]:
    """Their values in order, signed, with a mark for percent and for ordinals; what looks like a number and cannot be
    read stands as it is written, and so do signs of arithmetic."""
    return _read(without_dates(text))[0]


def without_amounts(text: str) -> str:
    """The plain text with blanks where dates, numbers and units stood: they have guards of their own."""
    dateless = without_dates(text)
    unitless = spot(dateless, _UNITS)[1]
    rest = _read(dateless)[1]
    return "".join(one if one == two else " " for one, two in zip(unitless, rest, strict=True))


def _read(dateless: str) -> tuple[tuple[Hashable, ...], str]:
    """(numbers, the text with blanks for them)."""
    rest = _NO_COUNT.sub(_blank, dateless)
    ordinals, rest = spot(rest, [(_ORDINAL, _ordinal)])
    found: list[tuple[int, Hashable]] = []
    letters = list(rest)
    for number in scan(rest):
        sign = -1 if _MINUS.search(rest[: number.start]) else 1
        found.append((number.start, (sign * number.value, number.percent, number.parts)))
        letters[number.start : number.end] = " " * (number.end - number.start)
    left = "".join(letters)
    found += [(match.start(), match[0]) for match in _LEFT.finditer(left)]
    found += [(match.start(), match[0].lower()) for match in _TIMES.finditer(left)]
    left = _TIMES.sub(_blank, _LEFT.sub(_blank, left))
    return (*ordinals, *(value for _, value in sorted(found, key=lambda one: one[0]))), left


def _blank(found: re.Match[str]) -> str:
    return " " * len(found[0])


def _ordinal(found: re.Match[str]) -> Hashable:
    if found[2]:
        return ("ordinal", _ORDINALS.index(found[2].lower()) + 1)
    written = found[1] or found[3]
    value = int(written) if written.isdigit() else chinese.numeral(written)
    return ("ordinal", int(value) if value is not None else written)


_N = rf"(?<=[\d{chinese.LETTERS}几多少半个])"
_CURRENCIES = {
    "USD": r"US\$|\bUSD\b|美元|美金|\b(?:US|U\.S\.|American) dollars?\b",
    "HKD": r"HK\$|\bHKD\b|港[币元]|\bHong Kong dollars?\b",
    "AUD": r"A\$|\bAUD\b|澳元|\bAustralian dollars?\b",
    "CAD": r"C\$|\bCAD\b|加元|\bCanadian dollars?\b",
    "SGD": r"S\$|\bSGD\b|新加坡元|新币|\bSingapore dollars?\b",
    "TWD": r"NT\$|\bTWD\b|新?台币",
    "EUR": r"€|\bEUR\b|\beuros?\b|欧元",
    "GBP": r"£|\bGBP\b|英镑|\bpounds? sterling\b",
    "JPY": r"\bJPY\b|\byen\b|日[元币]",
    "KRW": r"₩|\bKRW\b|韩[元币]",
    "INR": r"₹|\bINR\b|\brupees?\b|卢比",
    "RUB": r"₽|\bRUB\b|\broubles?\b|\brubles?\b|卢布",
    "CHF": r"\bCHF\b|\bSwiss francs?\b|瑞士法郎|瑞郎",
    "THB": r"\bTHB\b|\bbaht\b|泰铢",
    "BTC": r"\bBTC\b|\bbitcoins?\b|比特币",
    "CNY": rf"\bCNY\b|\bRMB\b|\byuan\b|\brenminbi\b|人民币|{_N}元|{_N}块钱?",
    "$": r"\$|\bdollars?\b",  # whose dollars is not said
    "¥": r"¥",  # yuan or yen
    "pound": r"\bpounds?\b|\blbs?\b",  # money or weight
    "cent": rf"(?<!per )\bcents?\b|{_N}分钱",
}
_MEASURES = {
    "millisecond": r"\bmilliseconds?\b|毫秒|(?<=\d)\s?ms\b",
    "second": rf"\bsecs?\b|\bseconds\b|{_N}秒",
    "minute": r"\bmin(?:ute)?s?\b|分钟",
    "hour": r"\bhours?\b|\bhourly\b|\bhrs?\b|小时|钟头",
    "day": rf"\bdays?\b|\bdaily\b|{_N}[天日]|每[天日]|按[天日]",
    "week": rf"\bweeks?\b|\bweekly\b|{_N}(?:周|星期|礼拜)|每(?:周|星期)|按周",
    "month": r"\bmonths?\b|\bmonthly\b|个月|每月|按月|月(?=[费供租息结])",
    "quarter": r"\bquarterly\b|\bquarters\b|季度?",
    "year": rf"\byears?\b|\byearly\b|\bannual(?:ly)?\b|\byrs?\b|{_N}年|每年|按年|年(?=[费利化息报租])",
    "kilometre": r"\bkilomet(?:re|er)s?\b|(?<=\d)\s?km\b|公里|千米",
    "mile": r"\bmiles?\b|英里",
    "centimetre": r"\bcentimet(?:re|er)s?\b|(?<=\d)\s?cm\b|厘米|公分",
    "millimetre": r"\bmillimet(?:re|er)s?\b|(?<=\d)\s?mm\b|毫米",
    "metre": rf"\bmet(?:re|er)s?\b|(?<=\d)\s?m\b|{_N}米",
    "foot": r"\b(?:foot|feet|ft)\b|英尺",
    "inch": r"\binch(?:es)?\b|英寸",
    "kilogram": r"\bkilo(?:gram)?s?\b|(?<=\d)\s?kgs?\b|千克|公斤",
    "milligram": r"\bmilligrams?\b|(?<=\d)\s?mg\b|毫克",
    "microgram": r"\bmicrograms?\b|(?<=\d)\s?(?:mcg|µg|μg)\b|微克",
    "gram": rf"\bgrams?\b|(?<=\d)\s?g\b|{_N}克",
    "jin": rf"{_N}斤",
    "ounce": r"\bounces?\b|\boz\b|盎司",
    "ton": rf"\btonn?es?\b|\btons\b|{_N}吨",
    "millilitre": r"\bmillilit(?:re|er)s?\b|(?<=\d)\s?ml\b|毫升",
    "litre": rf"\blit(?:re|er)s?\b|(?<=\d)\s?l\b|{_N}升",
    "celsius": r"°\s?C\b|\bcelsius\b|摄氏度?",
    "fahrenheit": r"°\s?F\b|\bfahrenheit\b|华氏度?",
    "degree": rf"\bdegrees?\b|°|{_N}度",
    "kilobyte": r"(?<=\d)\s?kb\b",
    "megabyte": r"(?<=\d)\s?mb\b|\bmegabytes?\b",
    "gigabyte": r"(?<=\d)\s?gb\b|\bgigabytes?\b",
    "terabyte": r"(?<=\d)\s?tb\b|\bterabytes?\b",
    "point": r"\b(?:percentage|basis) points?\b|个百分点|基点",
}
_UNITS = [(re.compile(rule, re.IGNORECASE), always(name)) for name, rule in (_CURRENCIES | _MEASURES).items()]


def units(text: str) -> tuple[Hashable, ...]:
    """Currencies and measures in order; one that is named twice in a row (人民币100元) counts once."""
    found, _ = spot(without_dates(text), _UNITS)
    return tuple(unit for unit, _ in groupby(found))
