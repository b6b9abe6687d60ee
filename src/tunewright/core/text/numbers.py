"""Which strings of ASCII digits are card, identity and telephone numbers: check digits, dates, issuers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date

_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECK = "10X98765432"
_PROVINCES = frozenset(
    [f"{region}{place}" for region, most in ((1, 5), (2, 3), (3, 7), (4, 6), (6, 5)) for place in range(1, most + 1)]
    + ["50", "51", "52", "53", "54", "71", "81", "82"]
)
"""GB/T 2260: the first two digits of a place in China."""
_LUHN_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)

_RANGES: tuple[tuple[str, Iterable[int]], ...] = (
    ("4", (13, 16, 19)),  # Visa
    ("5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720", (16,)),  # Mastercard
    ("62", range(13, 20)),  # UnionPay
    ("81[0-6]|817[01]", range(16, 20)),  # UnionPay, range of 2015
    ("3[47]", (15,)),  # American Express
    ("30[0-5]|3095|3[689]", (14,)),  # Diners Club
    ("6011|64[4-9]|65", range(16, 20)),  # Discover
    ("352[89]|35[3-8]", range(16, 20)),  # JCB
    ("220[0-4]", range(16, 20)),  # Mir
    ("5018|5020|5038|5893|6304|6759|676[1-3]", range(13, 20)),  # Maestro
    ("955|6013|6014|690755|843", range(15, 20)),  # older Chinese debit cards
)
"""Prefix and lengths in digits; source: the ranges of ISO/IEC 7812 as the schemes publish them."""
_ISSUERS = {
    length: re.compile("|".join(prefix for prefix, lengths in _RANGES if length in lengths)) for length in range(13, 20)
}


def is_luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B: the sum with every second digit from the right doubled is a multiple of ten."""
    total = sum(map(int, digits[-1::-2])) + sum(_LUHN_DOUBLED[int(digit)] for digit in digits[-2::-2])
    return total % 10 == 0


def is_bank_card(digits: str) -> bool:
    """13 to 19 digits of a known issuer that pass Luhn; an identity number of 18 digits is none."""
    issuers = _ISSUERS.get(len(digits))
    if issuers is None or not issuers.match(digits) or not is_luhn(digits):
        return False
    return len(digits) != 18 or not is_id_card(digits)


def is_id_card(number: str) -> bool:
    """GB 11643: 18 signs with a valid date and check digit (mod 11-2), or the 15 digits of before 1999 with a valid
    date and province."""
    if len(number) == 15:
        return number[:2] in _PROVINCES and _is_date(f"19{number[6:12]}")
    if len(number) != 18 or not _is_date(number[6:14]):
        return False
    total = sum(weight * int(digit) for weight, digit in zip(_WEIGHTS, number[:17], strict=True))
    return _CHECK[total % 11] == number[17].upper()


def _is_date(digits: str) -> bool:
    """yyyymmdd of the 19th to 21st century."""
    try:
        date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return False
    return digits[:2] in ("18", "19", "20")


_ALLOTTED = re.compile("1(?:3[0-9]|4[5-9]|5[0-35-9]|6[2567]|7[0-8]|8[0-9]|9[0-35-9])")


def is_allotted_mobile(digits: str) -> bool:
    """Whether a Chinese mobile number's first three digits have been given to an operator (2025)."""
    return bool(_ALLOTTED.match(digits))


_AREA = re.compile(
    "010|02[0-57-9]|03(?:1[0-9]|35|49|5[0-9]|7[0-9]|9[1-8])|04(?:1[0-9]|2[179]|3[1-9]|5[1-9]|6[4789]|7[0-9]|8[23])"
    "|05(?:1[0-9]|2[37]|3[0-9]|4[36]|5[0-9]|6[1-6]|7[0-9]|80|9[1-9])|06(?:3[1-5]|6[0238]|9[12])"
    "|07(?:01|1[0-9]|2[248]|3[0-9]|4[3-6]|5[0-9]|6[0-9]|7[0-9]|9[0-9])"
    "|08(?:1[2-8]|2[5-7]|3[0-9]|5[1-9]|7[0-9]|8[0-8]|9[1-8])"
    "|09(?:0[1-9]|1[1-9]|3[0-9]|4[13]|5[1-5]|7[0-9]|9[0-9])"
)


def is_area_code(digits: str) -> bool:
    """Whether the first digits of a landline number are a Chinese area code in use."""
    return bool(_AREA.match(digits))
