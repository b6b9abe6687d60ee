"""Slot filling: micro-F1 over (slot, value) pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tunewright.core.scoring import Measured, Sample
from tunewright.evaluate.metrics.characters import comparable
from tunewright.evaluate.metrics.counts import rate, ratio
from tunewright.evaluate.metrics.json_answers import object_in
from tunewright.evaluate.metrics.options import SlotsOptions
from tunewright.evaluate.rows import applying, matches, metadata_at

VERSION = 1
Pairs = Counter[tuple[str, str]]


class Slots:
    """`slots.f1`, `slots.exact` (all slots right and no other) and `slots.unparseable`, 0 to 1.

    An answer is a JSON object, with or without a code block or words around it: the slots themselves, or an object
    with the key `slots`. Values are compared apart from case, width and spaces.
    """

    def __init__(self, options: SlotsOptions) -> None:
        self.options = options

    @staticmethod
    def metric_keys(options: SlotsOptions) -> list[str]:
        """Flat keys that `measure` produces."""
        return ["slots.f1", "slots.exact", "slots.unparseable"]

    def applies(self, metadata: Mapping[str, Any]) -> bool:
        """Whether a row with this metadata is scored: it matches `where` and has slots, none at all included."""
        return matches(metadata, self.options.where) and isinstance(metadata_at(metadata, self.options.slots), Mapping)

    def measure(self, samples: Sequence[Sample]) -> list[Measured]:
        """Scores the samples that apply; none at all gives an empty list. An unparseable answer has no slots."""
        rows = applying(samples, self.applies)
        if not rows:
            return []
        said = [said_slots(row.prediction) for row in rows]
        right = [pairs(metadata_at(row.metadata, self.options.slots)) for row in rows]
        counts, exact = [], []
        for ours, theirs in zip(said, right, strict=True):
            found = ours if ours is not None else Counter()
            counts.append((2.0 * (found & theirs).total(), float(found.total() + theirs.total())))
            exact.append(ours is not None and found == theirs)
        unparseable = [ours is None for ours in said]
        signature = f"pairs:nfkc+casefold|micro|unparseable:{sum(unparseable)}"
        return [
            ratio("slots.f1", VERSION, counts, signature=signature),
            rate("slots.exact", VERSION, exact, signature=signature),
            rate("slots.unparseable", VERSION, unparseable, signature=signature, higher_is_better=False),
        ]


def said_slots(prediction: str) -> Pairs | None:
    """The pairs of an answer, None where it has no JSON object."""
    found = object_in(prediction)
    if found is None:
        return None
    inner = found.get("slots", found)
    return pairs(inner) if isinstance(inner, Mapping) else None


def pairs(slots: Mapping[str, Any]) -> Pairs:
    """(name, value) with a count; a list of values is a pair each, null and an empty text none."""
    found: Pairs = Counter()
    for name, value in slots.items():
        for one in value if isinstance(value, list) else [value]:
            text = comparable(one if isinstance(one, str) else str(one).lower())
            if one is not None and text:
                found[comparable(name), text] += 1
    return found
