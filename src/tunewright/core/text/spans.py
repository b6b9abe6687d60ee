"""Places in a text, and masking them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """`text[start:end]` is of this kind; offsets in characters."""

    kind: str
    start: int
    end: int


def placeholder(span: Span, original: str) -> str:
    """The plain label of a kind: `<PHONE>`."""
    return f"<{span.kind.upper()}>"


def mask(text: str, spans: Iterable[Span], *, label: Callable[[Span, str], str] = placeholder) -> str:
    """`text` with every span replaced by `label(span, original)`. The spans must not overlap."""
    parts: list[str] = []
    position = 0
    for span in sorted(spans, key=lambda span: span.start):
        assert span.start >= position, "spans overlap"
        parts += [text[position : span.start], label(span, text[span.start : span.end])]
        position = span.end
    return "".join([*parts, text[position:]])


def free(taken: Iterable[Span], start: int, end: int) -> bool:
    """Whether `start:end` touches no span of `taken`."""
    return all(end <= span.start or span.end <= start for span in taken)
