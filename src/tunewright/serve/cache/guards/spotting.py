"""Finding things in a text in the order in which they stand, each place read once."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence

Make = Callable[[re.Match[str]], Hashable | None]
"""What a match means; None: it is no such thing, and its place stays readable."""


def spot(text: str, kinds: Sequence[tuple[re.Pattern[str], Make]]) -> tuple[tuple[Hashable, ...], str]:
    """(what was found, in the order of the text; the text with blanks where it stood). Earlier kinds go first."""
    found: list[tuple[int, Hashable]] = []
    for pattern, make in kinds:
        letters = list(text)
        for match in pattern.finditer(text):
            made = make(match)
            if made is not None:
                found.append((match.start(), made))
                letters[match.start() : match.end()] = " " * (match.end() - match.start())
        text = "".join(letters)
    return tuple(thing for _, thing in sorted(found, key=lambda one: one[0])), text


def always(thing: Hashable) -> Make:
    """Every match means `thing`."""
    return lambda _: thing
