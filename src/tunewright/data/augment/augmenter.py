"""The one interface of all augmenters: a batch of texts in, other wordings of each out."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_LETTER = re.compile(r"[^\W\d_]")
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]")
HAN_SHARE = 0.2
"""From this share of Han letters on a text is Chinese (the same border as the scores use)."""


@dataclass(frozen=True, slots=True)
class Text:
    """A turn to reword. language: a code such as zh or en, empty where unknown; seed: from the content, 0..2^63-1."""

    content: str
    language: str
    seed: int


@runtime_checkable
class Augmenter(Protocol):
    """A plug-in of the registry `augmenters`, constructed from its options and the project's root folder."""

    def variants(self, texts: Sequence[Text]) -> list[list[str]]:
        """One list a text, in order: other wordings, at most `copies`, best first; empty where there is none."""
        ...


def language_of(text: str) -> str:
    """zh for Han script, en for Latin script, empty for others and for texts without letters."""
    letters = len(_LETTER.findall(text))
    if not letters:
        return ""
    if len(_HAN.findall(text)) >= HAN_SHARE * letters:
        return "zh"
    return "en" if len(_LATIN.findall(text)) >= letters / 2 else ""


def derived(*parts: object) -> int:
    """A number of 63 bits that depends on every part, the same on all machines."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def fraction(*parts: object) -> float:
    """The same as a number in [0, 1)."""
    return derived(*parts) / 2**63
