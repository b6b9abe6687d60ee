"""Personal data in Chinese and English text: phone, id_card, bank_card, email, ip.

Found also when glued to Han characters or letters, and when written with full-width digits or letters. Digits directly
before or behind make a number another, longer one: nothing is found inside it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Iterator
from typing import Literal, get_args

from tunewright.core.text.fold import fold
from tunewright.core.text.numbers import is_allotted_mobile, is_area_code, is_bank_card, is_id_card
from tunewright.core.text.spans import Span, free, mask

__all__ = ["KINDS", "Kind", "Span", "find_pii", "mask"]

Kind = Literal["phone", "id_card", "bank_card", "email", "ip"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_Places = Iterator[tuple[int, int]]

_HINT = re.compile(r"[\d@＠]|[A-Fa-f]:[A-Fa-f:]")
"""A text without any of these holds no personal data of our kinds: most turns end here."""

_LOCAL = re.compile(r"[A-Za-z0-9._%+\-]{1,64}\Z")
_WIDE_DIGITS = "０１２３４５６７８９"
_DOMAIN = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}(?:[Xx][Nn]--[A-Za-z0-9-]{2,59}|[A-Za-z]{2,63})"
)
_FIRST_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9][0-9]?)"
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"(?<![0-9])(?<![0-9]\.){_FIRST_OCTET}(?:\.{_OCTET}){{3}}(?![0-9])(?!\.[0-9])")
_IPV4_HINT = re.compile(r"[0-9]\.[0-9]{1,3}\.[0-9]")
_IPV6_HINT = re.compile("[0-9A-Fa-f]:[0-9A-Fa-f:]")
_VERSION = re.compile(r"(?:(?<![A-Za-z])(?:v|version|ver|release)|版本号?)[ .:：]{0,2}\Z", re.IGNORECASE)
_IPV6 = re.compile(r"(?<![0-9A-Za-z.])(?<!::)[0-9A-Fa-f]{1,4}:[0-9A-Fa-f:]*[0-9A-Fa-f:](?![0-9A-Za-z])")

_ID_CARD = re.compile(
    "(?<![0-9])(?=([1-9][0-9]{5}[ -]?(?:18|19|20)[0-9]{2}[ -]?[0-9]{4}[ -]?[0-9]{3}[0-9Xx](?![0-9])"
    "|[1-8][0-9]{14}(?![0-9])))"
)
_CARD = re.compile("(?<![0-9])(?=([0-9]{13,19}(?![0-9])|[0-9]{4,15}(?:[ -][0-9]{4,15}){0,4}[ -][0-9]{1,15}(?![0-9])))")
_JOINTS = re.compile("[^0-9A-Za-z]+")
_GROUP_END = re.compile("[0-9](?![0-9])")

_MOBILE = re.compile(
    r"(?<![0-9])(?:[(（](?:\+|00)?86[)）][ -]?|(?:\+|00)?86[ -]?)?"
    r"(1[3-9][0-9](?:[ .-]?[0-9]{4}[ .-]?[0-9]{4}|[0-9][ -][0-9]{3}[ -][0-9]{4}|[ -][0-9]{3}[ -][0-9]{5}))(?![0-9])"
)
_AREA = "(?:010|02[0-57-9])"
_LONG_AREA = "0[3-9][0-9]{2}"
_LANDLINE = re.compile(
    rf"(?<![0-9])(?:(?:{_AREA}|[(（]{_AREA}[)）])[ -]?[2-9][0-9]{{3}}[ -]?[0-9]{{4}}"
    rf"|(?:{_LONG_AREA}|[(（]{_LONG_AREA}[)）])[ -]?[2-9][0-9]{{2,3}}[ -]?[0-9]{{4}})(?![0-9])"
)
_INTERNATIONAL = re.compile(
    r"(?<![0-9])(?:\+|00(?=86))(?:[1-9][0-9]{7,14}|[1-9][0-9]{0,5}"
    r"(?:[ .-]?[(（][0-9]{1,4}[)）])?(?:[ .-]?[0-9]{1,8})?(?:[ .-][0-9]{2,8}){0,4})(?![0-9])"
)
_E164_MOST = 15
_E164_LEAST = 8
_GROUPED_LEAST = 9
"""Digits from which `+47 221 23 456` is a telephone number and not a sum in groups of thousands."""
_DIGIT_RUN = re.compile("[0-9](?:[ .()（）-]{0,3}[0-9]){7,}")
"""Where phone, identity and card numbers are looked for: all their digits stand in one such run."""
_LEAST_DIGITS: dict[Kind, int] = {"bank_card": 13, "id_card": 15, "phone": 11}
"""Digits that a number has at least; a phone number with a country code may have fewer, but has `+` or 0086."""
_COUNTRY_CODES = ("+", "0086")
_OTHER_THAN_SIGNS = bytes(code for code in range(128) if chr(code) not in "0123456789@:")


def find_pii(text: str, kinds: Collection[Kind] = KINDS, *, fast: bool = True) -> list[Span]:
    """The personal data of `kinds` in `text`, in order and without overlaps.

    fast: a kind is looked for where the text has its signs (enough digits, `@`, `.`, `:`); False looks for all.
    """
    if fast and text.isascii() and not _has_signs(text):
        return []
    if not _HINT.search(text):
        return []
    folded = fold(text)
    likely = _likely(folded.text) if fast else frozenset(KINDS)
    found: list[Span] = []
    for kind, finder in _FINDERS.items():
        if kind in kinds and kind in likely:
            for start, end in finder(folded.text):
                span = _without_wide_prefix(text, folded.place(kind, start, end))
                if free(found, span.start, span.end):
                    found.append(span)
    return sorted(found, key=lambda span: span.start)


def _has_signs(text: str) -> bool:
    """Whether an ASCII text may hold any kind at all: `@`, two colons, or the four digits of the shortest address."""
    signs = text.encode().translate(None, _OTHER_THAN_SIGNS)
    return bool(signs) and (len(signs) > 3 or b"@" in signs or signs.count(b":") > 1)


def _likely(folded: str) -> set[Kind]:
    """The kinds whose signs stand in a folded text."""
    found: set[Kind] = {"email"} if "@" in folded else set()
    if folded.count(".") > 2 or folded.count(":") > 1:
        found.add("ip")
    digits = max((sum(map(str.isdigit, run)) for run in _DIGIT_RUN.findall(folded)), default=0)
    found |= {kind for kind, least in _LEAST_DIGITS.items() if digits >= least}
    if digits and any(code in folded for code in _COUNTRY_CODES):
        found.add("phone")
    return found


def _without_wide_prefix(text: str, span: Span) -> Span:
    """Full-width digits in front of an ASCII address are glued to it, not part of it."""
    if span.kind != "email" or text[span.start].isascii():
        return span
    bare = text[span.start : span.end].lstrip(_WIDE_DIGITS)
    local = bare.partition("@")[0]
    return Span(span.kind, span.end - len(bare), span.end) if local.isascii() and local[:1].isalnum() else span


def _emails(text: str) -> _Places:
    at = text.find("@")
    while at >= 0:
        local = _LOCAL.search(text, max(0, at - 64), at)
        domain = _DOMAIN.match(text, at + 1)
        if local and domain and (bare := local[0].lstrip(".-")):
            yield at - len(bare), domain.end()
        at = text.find("@", at + 1)


def _ips(text: str) -> _Places:
    for match in _IPV4.finditer(text) if _IPV4_HINT.search(text) else ():
        if not _is_version(text, match.start(), match.end()):
            yield match.span()
    for match in _IPV6.finditer(text) if _IPV6_HINT.search(text) else ():
        shown = match[0] if match[0].endswith("::") else match[0].rstrip(":")
        if _is_ipv6(shown):
            yield match.start(), match.start() + len(shown)


def _is_version(text: str, start: int, end: int) -> bool:
    """`v1.2.3.4`, `firefox2.0.0.10`, `2.0.0.10+build`: four small numbers that name a release."""
    if _VERSION.search(text, max(0, start - 12), start):
        return True
    is_small = text[start + 1] == "."
    is_glued = text[start - 1 : start].isascii() and text[start - 1 : start].isalpha()
    return is_small and (is_glued or text[end : end + 1] in ("+", "~"))


def _is_ipv6(text: str) -> bool:
    """An address, and no slice (`a[1::2]`) or scope operator (`add::face`), which can look like one."""
    groups = [group for group in text.split(":") if group]
    if len(groups) < 3 and (len(groups[0]) < 3 or groups[0][0] not in "23fF"):
        return False
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return any(letter.isdigit() for letter in text)


def _id_cards(text: str) -> _Places:
    for match in _ID_CARD.finditer(text):
        start, end = match.span(1)
        if is_id_card(_digits(text[start:end])) and not _is_fraction(text, start):
            yield start, end


def _bank_cards(text: str) -> _Places:
    for match in _CARD.finditer(text):
        start = match.start()
        if text[match.end(1) : match.end(1) + 1] in ("X", "x") and is_id_card(f"{match[1]}X"):
            continue
        for stop in _group_ends(match[1]):
            if is_bank_card(_digits(match[1][:stop])):
                in_chain = "-" in match[1][:stop] and _goes_on(text, start, start + stop)
                is_phone = text[start - 1 : start] == "+" and stop <= _E164_MOST
                if not (in_chain or is_phone or _is_fraction(text, start)):
                    yield start, start + stop
                break


def _group_ends(groups: str) -> list[int]:
    """Where a card may end, the longest first: `6222 0212 3456 7890 128 5` holds a card and a 5."""
    return [match.end() for match in _GROUP_END.finditer(groups)][::-1]


def _goes_on(text: str, start: int, end: int) -> bool:
    """Whether digits stand before or behind, with a hyphen between: four of five hyphened groups are no card."""
    behind = text[end : end + 1] == "-" and text[end + 1 : end + 2].isdigit()
    return behind or (start > 1 and text[start - 1] == "-" and text[start - 2].isdigit())


def _phones(text: str) -> _Places:
    taken: list[Span] = []
    for finder in (_mobiles, _landlines, _internationals):
        for start, end in finder(text):
            if free(taken, start, end):
                taken.append(Span("phone", start, end))
                yield start, end


def _mobiles(text: str) -> _Places:
    for match in _MOBILE.finditer(text):
        number, start = match[1], match.start()
        unlikely = start > 1 and text[start - 1] == "." and text[start - 2].isdigit() and not is_allotted_mobile(number)
        is_number = number.isdigit() and (unlikely or _is_fraction(text, start))
        if not is_number and not ("-" in number and _goes_on(text, start, start)):
            yield match.span()


def _landlines(text: str) -> _Places:
    for match in _LANDLINE.finditer(text):
        is_bare = match[0].isdigit()  # without a hyphen or blank it could be any number that starts with 0
        if not is_bare or (is_area_code(match[0]) and not _is_fraction(text, match.start())):
            yield match.span()


def _internationals(text: str) -> _Places:
    for match in _INTERNATIONAL.finditer(text):
        start = match.start()
        ends = [stop for stop in _group_ends(match[0]) if len(_digits(match[0][:stop])) <= _E164_MOST]
        is_glued = match[0][1:].isdigit()
        if ends and len(_digits(match[0][: ends[0]])) >= (_E164_LEAST if is_glued else _GROUPED_LEAST):
            yield start, start + ends[0]


def _is_fraction(text: str, start: int) -> bool:
    """Whether the digits stand behind `0.`; behind `10.` they may be the tenth line of a list."""
    return text[max(0, start - 2) : start] == "0." and not text[max(0, start - 3) : start - 2].isdigit()


def _digits(text: str) -> str:
    return _JOINTS.sub("", text)


_FINDERS: dict[Kind, Callable[[str], _Places]] = {
    "email": _emails,
    "ip": _ips,
    "bank_card": _bank_cards,
    "id_card": _id_cards,
    "phone": _phones,
}
"""In this order: an address may hold a phone number, and a card that passes Luhn may hold a date as identity numbers
of 15 digits do (34 and 37 are provinces as well as American Express)."""
