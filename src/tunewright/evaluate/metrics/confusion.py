"""Which label was answered for which: the counts, the pairs mixed up most, and a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape

from pydantic import BaseModel, ConfigDict

UNPARSEABLE = "(no label)"
MOST_SHOWN = 24
_CELL, _LEFT, _TOP = 18, 190, 150


class Confusion(BaseModel):
    """labels: sorted, `(no label)` last where it was answered. counts[i][j]: rows with the right label i that were
    answered with j."""

    model_config = ConfigDict(frozen=True)

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    def mixed_up(self, most: int = 10) -> list[tuple[str, str, int]]:
        """(right label, answer, rows) of the commonest mistakes."""
        pairs = [
            (right, said, self.counts[i][j])
            for i, right in enumerate(self.labels)
            for j, said in enumerate(self.labels)
            if i != j and self.counts[i][j]
        ]
        return sorted(pairs, key=lambda pair: (-pair[2], pair[:2]))[:most]

    def svg(self) -> str:
        """The matrix as an inline SVG: a row a right label, a column an answer, darker for a larger share of the row.
        Of more than 24 labels those with the most mistakes."""
        kept = self._shown()
        size = len(kept) * _CELL
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="confusion of {len(kept)} labels"'
            f' viewBox="0 0 {_LEFT + size + 10} {_TOP + size + 10}" font-family="sans-serif" font-size="10">'
        ]
        for place, i in enumerate(kept):
            name = escape(_short(self.labels[i]))
            middle = place * _CELL + _CELL * 0.7
            parts.append(f'<text x="{_LEFT - 6}" y="{_TOP + middle:.1f}" text-anchor="end">{name}</text>')
            x = _LEFT + middle
            parts.append(f'<text x="{x:.1f}" y="{_TOP - 6}" transform="rotate(-60 {x:.1f} {_TOP - 6})">{name}</text>')
            parts += self._cells(i, kept, _TOP + place * _CELL)
        return "".join([*parts, "</svg>"])

    def _cells(self, i: int, kept: Sequence[int], y: int) -> list[str]:
        total = max(1, sum(self.counts[i]))
        cells = []
        for place, j in enumerate(kept):
            count = self.counts[i][j]
            colour = "46,125,50" if i == j else "198,40,40"
            title = escape(f"{self.labels[i]} answered with {self.labels[j]}: {count} of {sum(self.counts[i])}")
            cells.append(
                f'<rect x="{_LEFT + place * _CELL}" y="{y}" width="{_CELL}" height="{_CELL}" stroke="#ddd"'
                f' fill="rgba({colour},{count / total:.2f})"><title>{title}</title></rect>'
            )
            if count:
                middle = _LEFT + place * _CELL + _CELL / 2
                cells.append(f'<text x="{middle:.1f}" y="{y + _CELL * 0.7:.1f}" text-anchor="middle">{count}</text>')
        return cells

    def _shown(self) -> list[int]:
        """Indices of the labels with the most mistakes, in order."""
        everyone = range(len(self.labels))
        wrong = [sum(self.counts[i]) + sum(row[i] for row in self.counts) - 2 * self.counts[i][i] for i in everyone]
        return sorted(sorted(everyone, key=lambda i: (-wrong[i], i))[:MOST_SHOWN])


def confusion(truth: Sequence[str], said: Sequence[str]) -> Confusion:
    """Counts of (right label, answer); both lists have an entry a row."""
    labels = sorted({*truth, *said} - {UNPARSEABLE}) + [UNPARSEABLE] * (UNPARSEABLE in said)
    counted = Counter(zip(truth, said, strict=True))
    return Confusion(
        labels=tuple(labels), counts=tuple(tuple(counted[right, answer] for answer in labels) for right in labels)
    )


def _short(label: str) -> str:
    return label if len(label) <= 28 else f"{label[:27]}…"
