"""Which label was answered for which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

UNPARSEABLE = "(no label)"


class Confusion(BaseModel):
    """labels: sorted, `(no label)` last where it was answered. counts[i][j]: rows with the right label i that were
    answered with j."""

    model_config = ConfigDict(frozen=True)

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


def confusion(truth: Sequence[str], said: Sequence[str]) -> Confusion:
    """Counts of (right label, answer); both lists have an entry a row."""
    labels = sorted({*truth, *said} - {UNPARSEABLE}) + [UNPARSEABLE] * (UNPARSEABLE in said)
    counted = Counter(zip(truth, said, strict=True))
    return Confusion(
        labels=tuple(labels), counts=tuple(tuple(counted[right, answer] for answer in labels) for right in labels)
    )
