"""Domain relevance: which rows belong to the declared domain, and which lack what it requires. Nothing is dropped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from tunewright.core.text.fold import fold
from tunewright.data.draft import Draft, metadata_value
from tunewright.data.findings import Note, Rejection, excerpt
from tunewright.data.rules.options import DomainOptions

_LABEL = re.compile(r"metadata\.(?P<key>[^=]+)=(?P<value>.*)", re.DOTALL)


class Domain:
    """The rule `domain`."""

    def __init__(self, options: DomainOptions) -> None:
        self.options = options
        self._vocabulary = _Words(options.vocabulary)
        self._elements = {name: _Words(words) for name, words in options.elements.items()}

    def apply(self, draft: Draft) -> Draft | Rejection:
        """System turns are not looked at: they would put every row into the domain."""
        spoken = [turn.content or "" for turn in draft.turns if turn.role != "system"]
        text = fold("\n".join(spoken)).text.casefold()
        notes: list[Note] = []
        tallies = {"domain.rows": 1}
        if self.options.metadata or self.options.vocabulary:
            reason = self._why_off(text, draft.metadata)
            if reason:
                notes.append(Note("OFF_DOMAIN", "kept", reason, excerpt(spoken[0] if spoken else "")))
            else:
                tallies["domain.matched"] = 1
        held = [name for name, words in self._elements.items() if words.any_in(text, draft.metadata)]
        tallies |= {f"domain.element.{name}": 1 for name in held}
        lacking = [name for name in self._elements if name not in held]
        if lacking:
            reason = f"the row lacks what the domain requires: {', '.join(lacking)}"
            notes.append(Note("MISSING_ELEMENT", "kept", reason, excerpt(spoken[0] if spoken else "")))
        return draft.noted(*notes).tallied(tallies)

    def _why_off(self, text: str, metadata: Mapping[str, Any]) -> str:
        """Empty where the row belongs to the domain."""
        keys = self.options.metadata
        if any(metadata_value(metadata, key) in values for key, values in keys.items()):
            return ""
        values = [f"{key}={excerpt(str(metadata_value(metadata, key)))}" for key in keys]
        parts = [f"{', '.join(values)} is none of its values"] if keys else []
        if self.options.vocabulary:
            found = list(islice(self._vocabulary.found_in(text), self.options.min_words))
            if len(found) == self.options.min_words:
                return ""
            parts.append(f"{len(found)} of {self.options.min_words} needed words of its vocabulary")
        return "the row is far from the domain: " + ", ".join(parts)


class _Words:
    """A word list. Latin words count as whole words in any case, Han words wherever they stand."""

    def __init__(self, words: Iterable[str]) -> None:
        labels = [(word, _LABEL.fullmatch(word)) for word in words]
        self._labels = [(match["key"], match["value"]) for _, match in labels if match]
        plain = dict.fromkeys(fold(word).text.casefold().strip() for word, match in labels if not match)
        self._words = [(word, _edged(word)) for word in plain]

    def found_in(self, text: str) -> Iterable[str]:
        """The different words in a folded, case-folded text."""
        return (word for word, pattern in self._words if word in text and (pattern is None or pattern.search(text)))

    def any_in(self, text: str, metadata: Mapping[str, Any]) -> bool:
        """Whether one of the words or labels is there."""
        labelled = any(metadata_value(metadata, key) == value for key, value in self._labels)
        return labelled or next(iter(self.found_in(text)), None) is not None


def _edged(word: str) -> re.Pattern[str] | None:
    """Word edges for ASCII words (`pain` is not in `paint`; Han neighbours are edges); None for the others."""
    if not word.isascii():
        return None
    return re.compile(rf"(?<![a-z0-9]){re.escape(word)}(?![a-z0-9])")
