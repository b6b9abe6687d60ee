"""What is looked for: an id, or a text in any spelling of letters, blanks and full-width signs."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from tunewright.core.errors import ConfigError

Kind = Literal["auto", "id", "text"]
_INVISIBLE = re.compile("[\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_SAMPLE = re.compile(r"(.*[:#]\d+(?:\+\w+\d+)?)~\d+", re.DOTALL)
_ID = re.compile(r".+[:#]\d+(?:\+\w+\d+)?", re.DOTALL)
_NUMBER = re.compile(r"[+()\d\s.\-]+")
_FEWEST_DIGITS = 7
_SEPARATORS = r"[\s.()\-]*"
_TAG = re.compile(r"<[^>]*>")
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
_FEWEST_CHARS = 2
_TURNS = ("conversation", "messages", "conversations")


def normal(text: str) -> str:
    """For comparing: NFKC, caseless, nothing invisible, each run of whitespace one space."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text))
    return " ".join(text.casefold().split())


def row_id_of(name: str) -> str:
    """The row of a sample: `a.jsonl:3~2` is of `a.jsonl:3`."""
    match = _SAMPLE.fullmatch(name)
    return match[1] if match else name


@dataclass(frozen=True)
class Query:
    """What was asked for. Raises ConfigError for a text that is too short to mean anything."""

    word: str
    kind: Kind = "auto"

    def __post_init__(self) -> None:
        if len(normal(self.word)) < _FEWEST_CHARS:
            raise ConfigError(
                "this would match nearly every row", where=repr(self.word), fix="give an id or a longer text"
            )

    @property
    def row_id(self) -> str:
        """The row that an id names."""
        return row_id_of(self.word)

    @property
    def may_be_id(self) -> bool:
        """Whether it has the form of an id: a source's name with a line or an element."""
        return self.kind != "text" and bool(_ID.fullmatch(self.row_id))

    @cached_property
    def _text(self) -> str:
        return normal(self.word)

    @cached_property
    def _digits(self) -> re.Pattern[str] | None:
        """A number of seven or more digits is found with any blanks, dots, hyphens and brackets in it, and not inside a
        longer number."""
        found = re.sub(r"\D", "", self._text)
        if not _NUMBER.fullmatch(self._text) or len(found) < _FEWEST_DIGITS:
            return None
        return re.compile(rf"(?<!\d){_SEPARATORS.join(found)}(?!\d)")

    def is_in(self, text: str) -> bool:
        """Whether `text` holds what was asked for."""
        text = normal(text)
        return bool(self._digits.search(text)) if self._digits else self._text in text

    def places(self, strings: Sequence[tuple[str, str]]) -> list[str]:
        """The places whose text holds it. strings: (place, text)."""
        if not self.is_in("\x00".join([text for _, text in strings])):  # nearly every row: one look instead of many
            return []
        return list(dict.fromkeys(place for place, text in strings if self.is_in(text)))


def strings_of(value: Any) -> list[tuple[str, str]]:
    """(place, text) of every text and number in a JSON document. Turns are `turn 1`, other keys have dots."""
    found: list[tuple[str, str]] = []
    _collect(value, "", found)
    return found


def _collect(value: Any, place: str, found: list[tuple[str, str]]) -> None:
    if isinstance(value, str):
        found.append((place, value))
    elif isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(inner, list) and not place and key in _TURNS:
                for number, turn in enumerate(inner, start=1):
                    _collect(_said(turn), f"turn {number}", found)
            else:
                _collect(inner, f"{place}.{key}" if place else str(key), found)
    elif isinstance(value, list | tuple):
        for inner in value:
            _collect(inner, place, found)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        found.append((place, str(value)))


def _said(turn: Any) -> Any:
    """The content of a turn; all of it but the name of its role where there is more."""
    if not isinstance(turn, dict):
        return turn
    said = [inner for key, inner in turn.items() if key not in ("role", "from")]
    return said[0] if len(said) == 1 else said


def unescaped(raw: str) -> str:
    r"""A text that is no JSON, with its `\u4f60` escapes read."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), raw) if "\\u" in raw else raw


def visible(page: str) -> str:
    """The text of an HTML page; tags inside a word leave no gap."""
    return html.unescape(_TAG.sub("", page))
