"""Why a kept answer may not be given to a question that only seems to mean the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable

from tunewright.serve.cache.guards.amounts import numbers, units, without_amounts
from tunewright.serve.cache.guards.asking import asked_for
from tunewright.serve.cache.guards.dates import dates, without_dates
from tunewright.serve.cache.guards.names import are_named, names, quoted, tokens
from tunewright.serve.cache.guards.opposites import poles, prefixed_apart
from tunewright.serve.cache.guards.polarity import negations, persons, roles
from tunewright.serve.cache.guards.words import content, frame, language

ALIKE = 1 / 3
"""From this share of common content words on, two questions are the same wording, and the other words decide."""


def objections(asked: str, kept: str) -> tuple[str, ...]:
    """The guards that refuse, all of them; empty when none does. asked, kept: two questions in English or Chinese."""
    return tuple(name for name, is_same in GUARDS.items() if not is_same(asked, kept))


def _reads_the_same(reading: Callable[[str], Hashable | Counter[Hashable]]) -> Callable[[str, str], bool]:
    return lambda asked, kept: reading(asked) == reading(kept)


def _language(asked: str, kept: str) -> bool:
    """An answer in another language helps nobody, and what is neither English nor Chinese cannot be guarded."""
    found = language(asked)
    return found is not None and found == language(kept)


def _opposites(asked: str, kept: str) -> bool:
    return poles(asked) == poles(kept) and not prefixed_apart(asked, kept)


def _names(asked: str, kept: str) -> bool:
    """A name may be written in small letters in one of the two."""
    one, two = without_dates(asked), without_dates(kept)
    named = are_named(names(one), tokens(two)) and are_named(names(two), tokens(one))
    return named and quoted(asked) == quoted(kept)


def _persons(asked: str, kept: str) -> bool:
    """`Can I see you` is not `can you see me`; `can you tell me how I` is `how do I`."""
    one, two = roles(asked), roles(kept)
    return persons(asked) == persons(kept) and (one == two or set(one) != set(two))


def _wording(asked: str, kept: str) -> bool:
    """Where many content words are common, one that is not is what the question is about (a visa card, a gift card),
    and another order may be another question; likewise where all else is the same (how do I cook it, how do I wash
    it). Where few are common and the sentence is another, the embedder decides."""
    one, two = (content(without_amounts(text)) for text in (asked, kept))
    if not one or not two or frame(asked) == frame(kept):
        return one == two
    common = sum((Counter(one) & Counter(two)).values())
    return one == two or common / min(len(one), len(two)) < ALIKE


GUARDS: dict[str, Callable[[str, str], bool]] = {
    "language": _language,
    "negation": _reads_the_same(negations),
    "numbers": _reads_the_same(numbers),
    "dates": _reads_the_same(dates),
    "units": _reads_the_same(units),
    "names": _names,
    "question": _reads_the_same(asked_for),
    "opposites": _opposites,
    "persons": _persons,
    "wording": _wording,
}
"""By the name that a refusal is told with; each says whether it sees no difference."""
