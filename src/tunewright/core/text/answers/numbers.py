"""Numbers of a text with their places: digits, fractions, percentages, ratios, times, Chinese and English numerals."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from tunewright.core.text.answers import chinese, english

MOST_DIGITS = 30
"""Longer runs of digits are identifiers, not quantities; the limit also bounds the work."""
PI = Fraction("3.14159265358979323846")
Kind = Literal["digits", "fraction", "han", "word", "ratio", "time"]


@dataclass(frozen=True, slots=True)
class Number:
    """`text[start:end]` of a plain text, sign included. value: as written, 95 for 95%. parts: of a ratio or time.
    also: the same quantity in the smaller unit (5元5角: 5.5, also 55). rank: 0 sure, 1 a single numeral or word,
    2 an ordinal or the number of a label; numbers of a lower rank are preferred."""

    value: Fraction
    start: int
    end: int
    kind: Kind
    percent: bool = False
    parts: tuple[Fraction, ...] = ()
    also: tuple[Fraction, ...] = ()
    rank: int = 0


_GROUPED = (
    r"\d{1,3}(?:,\d{3})+(?!,?\d)",
    r"\d{1,3}(?: \d{3})+(?! ?\d|-)",
    r"\d{1,3}(?:'\d{3})+(?!'?\d)",
)
DECIMAL = rf"(?:\d{{1,3}}(?:\.\d{{3}})+,\d{{1,2}}(?![\d,])|(?:{'|'.join(_GROUPED)}|\d+)(?:\.\d+)?|(?<![\d)])\.\d+)"
"""1234.5, 1,234.50, 1 234, 1'234, 1.234,50, .5"""
_SCALE = r"(?:万亿|千万|百万|十万|[万亿]|千(?![克米瓦卡帕焦赫伏牛兆分])|百(?![分货科合度姓叶]))"
_SCALED = rf"{DECIMAL}\s?{_SCALE}(?:零?{DECIMAL}{_SCALE})*(?:零?\d+(?![\d.,:/]))?"
_EXPONENT = r"(?:\{\s?[+-]?\d{1,3}\s?\}|\(\s?[+-]?\d{1,3}\s?\)|[+-]?\d{1,3})"
_TEN = rf"\s?[×xX*]\s?10\s?(?:\^|\*\*)\s?{_EXPONENT}"
_ANY = rf"(?:{DECIMAL}|{chinese.NUMERAL})"
_MORE = "大小多少高低长短重轻快慢贵便早晚厚薄宽窄远近"
_CLOCK = r"\d{1,2}\s?[点时](?:\s?\d{1,2}\s?分(?![之钟])(?:\s?\d{1,2}\s?秒)?|半(?![个小]))"
MASTER = re.compile(
    rf"(?P<parts>(?:{_ANY}\s?又\s?)?(?:{_ANY})\s?分之\s?(?:{_ANY}|[百千]))"
    rf"|(?P<clock>{_CLOCK})"
    r"|(?P<mixed>\d+(?: | ?又 ?| and | & )\d+/\d+(?![\d/]))"
    r"|(?P<slash>(?:\d{1,3}(?:,\d{3})+|\d+(?:\.\d+)?)\s?/\s?(?:\d{1,3}(?:,\d{3})+(?!,?\d)|\d+(?:\.\d+)?))"
    rf"|(?P<ratio>{DECIMAL}(?:(?::|比){DECIMAL}(?!\d|[{_MORE}])| : {DECIMAL})+)"
    rf"|(?P<scaled>{_SCALED})"
    rf"|(?P<power>10\s?(?:\^|\*\*)\s?{_EXPONENT})"
    rf"|(?P<science>{DECIMAL}(?:[eE][+-]?\d{{1,3}}(?!\d|\.\d)|{_TEN}))"
    rf"|(?P<digits>{DECIMAL})"
    rf"|(?P<half>一半)|(?P<han>{chinese.NUMERAL})"
    rf"|(?P<word>{english.WORDS})",
    re.IGNORECASE,
)
_START = re.compile(rf"[0-9{chinese.LETTERS}]|\.(?=[0-9])|\b(?i:{english.STARTS})")
"""Where a number can begin: tried first, since most characters begin none."""
_PERCENT = re.compile(r"\s?%|\s?per ?cent(?:age points?)?\b|\s?个?百分点", re.IGNORECASE)
_PER_MILLE = re.compile(r"\s?‰")
_ENGLISH_SCALE = re.compile(r"\s?(hundred|thousand|million|billion|trillion)s?\b|(k)(?![A-Za-z])", re.IGNORECASE)
_TENTHS = re.compile(r"成(?![为本功立了就交员果分熟绩长人])|折(?![扣叠返断磨线纸合])")
_DOZEN = re.compile(r"\s?dozen\b", re.IGNORECASE)
_HALF_MORE = re.compile(
    r"(个|年|天|小时|分钟|倍|吨|千克|公斤|米)半(?!径|天|年|数|个)|\s?(?:and a half|个半)\b", re.IGNORECASE
)


def scan(text: str) -> Iterator[Number]:
    """The numbers of a plain text (see `plain`) in order, without what stands around them."""
    position = 0
    while start := _START.search(text, position):
        found = MASTER.match(text, start.start())
        if found is None:
            position = start.start() + 1
            continue
        numbers = [number for number in _read(found) if number is not None]
        yield from (_with_suffix(number, text) for number in numbers)
        position = max(found.end(), *(number.end for number in numbers), position + 1) if numbers else found.end()


_OF_HUNDRED = re.compile(r"百\s?分之")
_KINDS: dict[str, Kind] = {
    "parts": "fraction", "slash": "fraction", "half": "fraction", "clock": "time", "ratio": "ratio", "han": "han",
    "word": "word",
}  # fmt: skip


def _read(found: re.Match[str]) -> list[Number | None]:
    kind, text = found.lastgroup, found[0]
    assert kind is not None
    if len(text) > MOST_DIGITS and (len(text) > 2 * MOST_DIGITS or sum(map(str.isdigit, text)) > MOST_DIGITS):
        return []
    if kind == "mixed":
        return _mixed(found)
    value, parts = _VALUES[kind](text)
    if value is None:
        return []
    rank = int(kind == "word" and " " not in text and "-" not in text) or int(
        kind in ("half", "han") and len(text) < 2 + (kind == "half")
    )
    percent = kind == "parts" and bool(_OF_HUNDRED.match(text))
    if percent:
        value *= 100
    return [Number(value, found.start(), found.end(), _KINDS.get(kind, "digits"), percent, parts, rank=rank)]


Value = tuple[Fraction | None, tuple[Fraction, ...]]


def decimal(text: str) -> Fraction:
    """The value of a match of DECIMAL."""
    if text.isdigit():
        return Fraction(int(text))
    text = text.replace(" ", "").replace("'", "")
    if re.fullmatch(r"\d{1,3}(?:\.\d{3})+,\d{1,2}", text):
        text = text.replace(".", "").replace(",", ".")
    return Fraction(text.replace(",", ""))


def either(text: str) -> Fraction | None:
    """The value of digits or of a Chinese numeral."""
    text = text.strip()
    if text in ("百", "千", "万"):
        return Fraction(chinese.SCALES[text])
    return decimal(text) if re.fullmatch(DECIMAL, text) else chinese.numeral(text)


def _parts(text: str) -> Value:
    whole, _, rest = text.rpartition("又")
    below, _, above = rest.partition("分之")
    values = either(whole) if whole else Fraction(0), either(below), either(above)
    if values[0] is None or not values[1] or values[2] is None:
        return None, ()
    return values[0] + values[2] / values[1], ()


def _slash(text: str) -> Value:
    above, below = (decimal(part) for part in text.replace(" ", "").split("/"))
    return (above / below if below else None), ()


def _mixed(found: re.Match[str]) -> list[Number | None]:
    """3 1/2 is a mixed number; 3 5/2 are two numbers."""
    places = [part.span() for part in re.finditer(r"\d+", found[0])]
    whole, above, below = (int(found[0][start:end]) for start, end in places)
    if 0 < above < below:
        return [Number(whole + Fraction(above, below), found.start(), found.end(), "fraction")]
    begin = found.start()
    first = Number(Fraction(whole), begin, begin + places[0][1], "digits")
    second = Number(Fraction(above, below), begin + places[1][0], found.end(), "fraction") if below else None
    return [first, second]


def _ratio(text: str) -> Value:
    parts = tuple(decimal(part) for part in re.split(r"[:比]", text))
    return (parts[0] / parts[1] if parts[1] else None), parts


def _clock(text: str) -> Value:
    parts = [Fraction(part) for part in re.findall(r"\d+", text)]
    parts += [Fraction(30)] if "半" in text else []
    return parts[0] + parts[1] / 60, tuple(parts)


def _scaled(text: str) -> Value:
    total, unit, end = Fraction(0), Fraction(0), 0
    for part in re.finditer(rf"({DECIMAL})\s?({_SCALE})", text):
        unit = Fraction(1)
        for letter in part[2]:
            unit *= chinese.SCALES[letter]
        total, end = total + decimal(part[1]) * unit, part.end()
    rest = text[end:]
    digits = rest.lstrip("零")
    if digits:  # 1万2345; 3万5 is said for 3万5千
        total += int(digits) * (unit / 10 if len(rest) == 1 else 1)
    return total, ()


_MANTISSA = re.compile(rf"({DECIMAL})(?:[eE]|\s?[×xX*]\s?10\s?(?:\^|\*\*))")


def _science(text: str) -> Value:
    said = _MANTISSA.match(text)
    assert said is not None, text
    scale, _ = _power(f"10{text[said.end() :]}")
    return (None if scale is None else decimal(said[1]) * scale), ()


def _power(text: str) -> Value:
    exponent = int(re.sub(r"[^\d+-]", "", text[2:]))
    return (Fraction(10) ** exponent if abs(exponent) <= MOST_DIGITS else None), ()


_VALUES: dict[str, Callable[[str], Value]] = {
    "parts": _parts, "slash": _slash, "ratio": _ratio, "clock": _clock, "scaled": _scaled, "science": _science,
    "power": _power,
    "digits": lambda text: (decimal(text), ()), "han": lambda text: (chinese.numeral(text), ()),
    "word": lambda text: (english.words(text), ()), "half": lambda text: (Fraction(1, 2), ()),
}  # fmt: skip


def _with_suffix(number: Number, text: str) -> Number:
    """20 %, 5‰, 1.2 million, 5k, 3个半, 36π."""
    if number.parts:
        return number
    if found := _PERCENT.match(text, number.end):
        return replace(number, percent=True, end=found.end())
    if found := _PER_MILLE.match(text, number.end):
        return replace(number, value=number.value / 1000, end=found.end())
    if number.kind == "digits" and (found := _ENGLISH_SCALE.match(text, number.end)):
        scale = 1000 if found[2] else english.SCALES[found[1].lower()]
        return replace(number, value=number.value * scale, end=found.end())
    if found := _HALF_MORE.match(text, number.end):
        return replace(number, value=number.value + Fraction(1, 2), end=found.end())
    if (found := _TENTHS.match(text, number.end)) and 0 < number.value < 100:  # 3成, 8折, 85折
        tenths = number.value / (10 if number.value < 10 else 100)
        return replace(number, also=(tenths,), end=found.end())
    if found := _DOZEN.match(text, number.end):
        return replace(number, also=(12 * number.value,), end=found.end())
    if text.startswith(("π", " π"), number.end):
        return replace(number, value=number.value * PI, end=text.index("π", number.end) + 1)
    return number
