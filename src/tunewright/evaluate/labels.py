"""Labels: one normalization for every comparison, and the list of labels that training has shown."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tunewright.core.chat import Conversation
from tunewright.evaluate.config import IntentOptions
from tunewright.evaluate.rows import matches, metadata_value

NORMALIZATION = "nfkc+casefold+edges+underscores"
_STRIPPED = "`´^~|<>=+$"
"""Marks around an answer that Unicode counts as symbols, not as punctuation."""


def normalize(text: str) -> str:
    """The form in which labels are compared: ' "Card-Arrival".' -> 'card_arrival'.

    NFKC, case-folded, quotes, punctuation and spaces around removed, spaces and dashes inside as one underscore.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    start, end = 0, len(folded)
    while start < end and _is_edge(folded[start]):
        start += 1
    while end > start and _is_edge(folded[end - 1]):
        end -= 1
    inner = "".join("-" if unicodedata.category(letter) == "Pd" else letter for letter in folded[start:end])
    return re.sub(r"[\s_\-]+", "_", inner)


def _is_edge(letter: str) -> bool:
    return letter.isspace() or letter in _STRIPPED or unicodedata.category(letter)[0] in "PZC"


def has_label(options: IntentOptions, metadata: Mapping[str, Any]) -> bool:
    """Whether the intent metric applies to a row with this metadata."""
    return matches(metadata, options.where) and metadata_value(metadata, options.label) is not None


def training_labels(options: IntentOptions, rows: Iterable[Conversation]) -> list[str]:
    """Every label of the training rows once, sorted, spelled as the answers spell it most often.

    A label whose answers say something else is spelled as the metadata has it.
    """
    spellings: dict[str, Counter[str]] = {}
    for row in rows:
        if not has_label(options, row.metadata):
            continue
        label = metadata_value(row.metadata, options.label) or ""
        answer = row.reference.strip()
        shown = answer if normalize(answer) == normalize(label) else label
        spellings.setdefault(normalize(label), Counter())[shown] += 1
    return [min(counts, key=lambda text: (-counts[text], text)) for _, counts in sorted(spellings.items())]


def merged_labels(options: IntentOptions, rows: Sequence[Conversation]) -> list[tuple[str, ...]]:
    """Different metadata labels that count as one after normalization, for a warning: ('c', 'c#')."""
    groups: dict[str, set[str]] = {}
    for row in rows:
        if has_label(options, row.metadata):
            label = metadata_value(row.metadata, options.label) or ""
            groups.setdefault(normalize(label), set()).add(label)
    return [tuple(sorted(group)) for _, group in sorted(groups.items()) if len(group) > 1]
