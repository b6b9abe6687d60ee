"""Places in a text, and masking them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

_ESCAPED = re.compile(r"\\.")


@dataclass(frozen=True, slots=True)
class Span:
    """`text[start:end]` is of this kind; offsets in characters."""

    kind: str
    start: int
    end: int


def placeholder(span: Span, original: str) -> str:
    """The plain label of a kind: `<PHONE>`."""
    return f"<{span.kind.upper()}>"


def mask(text: str, spans: Collection[Span], *, label: Callable[[Span, str], str] = placeholder) -> str:
    """`text` with every span replaced by `label(span, original)`. The spans must not overlap. A text that is JSON (a
    tool's result) stays JSON: a number's label gets quotes."""
    bare = _bare_in_json(text, spans)
    parts: list[str] = []
    position = 0
    for span in sorted(spans, key=lambda span: span.start):
        assert span.start >= position, "spans overlap"
        shown = label(span, text[span.start : span.end])
        parts += [text[position : span.start], f'"{shown}"' if span in bare else shown]
        position = span.end
    return "".join([*parts, text[position:]])


def _bare_in_json(text: str, spans: Collection[Span]) -> set[Span]:
    """Spans that are numbers of a JSON text."""
    if not spans or not text.lstrip().startswith(("{", "[")):
        return set()
    try:
        json.loads(text)
    except ValueError:
        return set()
    return {span for span in spans if _ESCAPED.sub("", text[: span.start]).count('"') % 2 == 0}


def free(taken: Iterable[Span], start: int, end: int) -> bool:
    """Whether `start:end` touches no span of `taken`."""
    return all(end <= span.start or span.end <= start for span in taken)
