"""Personal data out of the texts. What was found is counted by kind and never repeated in a finding."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tunewright.core.chat import Message
from tunewright.core.text.nested import rewrite
from tunewright.core.text.pii import find_pii
from tunewright.core.text.spans import Span, mask, placeholder
from tunewright.data.draft import Draft, Masked
from tunewright.data.findings import Note, Rejection
from tunewright.data.rules.options import PersonalKind, RedactOptions
from tunewright.data.rules.strings import rewrite_calls, texts_of

_NUMBERED = re.compile("<[A-Z_]+_[0-9]+>")


class Redact:
    """The rule `redact`."""

    def __init__(self, options: RedactOptions) -> None:
        self.options = options

    def apply(self, draft: Draft) -> Draft | Rejection:
        """Masks every turn and the named metadata keys; the finding names kinds, counts and places only."""
        if self._holds_nothing(draft):
            return draft
        masking = _Masking(self.options.kinds)
        if self.options.mapping:
            masking.number(set(_placeholders_in(draft)))
        turns, places = [], []
        for number, turn in enumerate(draft.turns, start=1):
            before = masking.total
            turns.append(masking.turn(turn))
            places += [f"turn {number}"] if masking.total > before else []
        metadata = draft.metadata
        for key in self.options.keys:
            before = masking.total
            metadata = _rewritten(metadata, key.removeprefix("metadata."), masking)
            places += [f"metadata.{key.removeprefix('metadata.')}"] if masking.total > before else []
        if not masking.total:
            return draft
        note = Note("PII", "repaired", f"masked {_listed(masking.counts)} in {_shortened(places)}")
        done = draft.changed(turns, note).tallied({f"pii.{kind}": count for kind, count in masking.counts.items()})
        return replace(done, metadata=metadata, masked=(*draft.masked, *masking.masked))

    def _holds_nothing(self, draft: Draft) -> bool:
        """Whether the turns are plain texts without personal data, as most rows are; asks again where one is not."""
        return not self.options.keys and not any(
            turn.tool_calls or find_pii(turn.content or "", self.options.kinds) for turn in draft.turns
        )


class _Masking:
    """One conversation's masking: counts by kind and, when numbered, what stands for what."""

    def __init__(self, kinds: Sequence[PersonalKind]) -> None:
        self.counts: Counter[str] = Counter()
        self.total = 0
        self._kinds = kinds
        self._taken: set[str] | None = None
        self._labels: dict[tuple[str, str], str] = {}

    def number(self, taken: set[str]) -> None:
        """Numbers placeholders from now on; `taken` are those that the source's own texts spell."""
        self._taken = taken

    @property
    def masked(self) -> tuple[Masked, ...]:
        return tuple(Masked(label, original, kind) for (kind, original), label in self._labels.items())

    def turn(self, turn: Message) -> Message:
        content = turn.content if turn.content is None else self.text(turn.content)
        calls = rewrite_calls(turn, self.text) if turn.tool_calls else ()
        if content == turn.content and calls == turn.tool_calls:
            return turn
        return turn.model_copy(update={"content": content, "tool_calls": calls})

    def text(self, text: str) -> str:
        spans = find_pii(text, self._kinds)
        if not spans:
            return text
        self.counts.update(span.kind for span in spans)
        self.total += len(spans)
        return mask(text, spans, label=self._label)

    def _label(self, span: Span, original: str) -> str:
        if self._taken is None:
            return placeholder(span, original)
        known = self._labels.get((span.kind, original))
        if known:
            return known
        number = 1
        while (label := f"<{span.kind.upper()}_{number}>") in self._taken:
            number += 1
        self._taken.add(label)
        self._labels[span.kind, original] = label
        return label


def _rewritten(metadata: dict[str, Any], key: str, masking: _Masking) -> dict[str, Any]:
    """A copy with the value of a dotted key masked."""
    if key in metadata:
        return {**metadata, key: rewrite(metadata[key], masking.text)}
    first, _, rest = key.partition(".")
    inner = metadata.get(first)
    return {**metadata, first: _rewritten(inner, rest, masking)} if rest and isinstance(inner, dict) else metadata


def _placeholders_in(draft: Draft) -> Iterator[str]:
    texts = [turn.content or "" for turn in draft.turns]
    for text in (*texts, *texts_of([turn.tool_calls for turn in draft.turns]), *texts_of(draft.metadata)):
        yield from _NUMBERED.findall(text)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))


def _shortened(places: Sequence[str]) -> str:
    shown = ", ".join(places[:5])
    return f"{shown} and {len(places) - 5} more" if len(places) > 5 else shown
