"""Which label the tuned model answered for which: a matrix, and the pairs mixed up most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from tunewright.report import svg

MOST_LABELS, MOST_PAIRS = 24, 10
_CELL, _LABEL = 18, 190
"""Pixels of a cell and of the longest label, which stands left of its row and turned by 60 degrees above its column."""
_LEFT, _TOP, _RIGHT = 210, 180, 100


def mixed_up(found: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    """(right label, answer, rows) of the commonest mistakes, from the content of confusion.json."""
    labels, counts = found["labels"], found["counts"]
    pairs = [
        (right, said, counts[i][j])
        for i, right in enumerate(labels)
        for j, said in enumerate(labels)
        if i != j and counts[i][j]
    ]
    return sorted(pairs, key=lambda pair: (-pair[2], pair[:2]))[:MOST_PAIRS]


def matrix(found: Mapping[str, Any]) -> str:
    """An inline SVG: a row a right label, a column an answer, darker for a larger share of the row. Of more than 24
    labels those with the most mistakes."""
    labels, kept = found["labels"], _shown(found["counts"])
    size = len(kept) * _CELL
    body = []
    for place, i in enumerate(kept):
        middle = place * _CELL + _CELL * 0.7
        body.append(svg.text(_LEFT - 6, _TOP + middle, _short(labels[i]), "tick", "end"))
        turned = f"rotate(-60 {_LEFT + middle:.1f} {_TOP - 6})"
        body.append(f'<g transform="{turned}">{svg.text(_LEFT + middle, _TOP - 6, _short(labels[i]), "tick")}</g>')
        body += _cells(found, i, kept, _TOP + place * _CELL)
    return svg.document(
        "".join(body),
        width=_LEFT + size + _RIGHT,
        height=_TOP + size + 10,
        title="Right labels and answers",
        description=f"A row a right label, a column an answer; {len(kept)} of {len(labels)} labels.",
    )


def _cells(found: Mapping[str, Any], i: int, kept: Sequence[int], y: int) -> list[str]:
    labels, row = found["labels"], found["counts"][i]
    total, cells = sum(row), []
    for place, j in enumerate(kept):
        x, colour = _LEFT + place * _CELL, "46,125,50" if i == j else "198,40,40"
        title = escape(f"{labels[i]} answered with {labels[j]}: {row[j]} of {total}")
        cells.append(
            f'<rect x="{x}" y="{y}" width="{_CELL}" height="{_CELL}" class="grid"'
            f' style="fill:rgba({colour},{row[j] / max(1, total):.2f})"><title>{title}</title></rect>'
        )
        if row[j]:
            cells.append(svg.text(x + _CELL / 2, y + _CELL * 0.7, str(row[j]), "tick", "middle"))
    return cells


def _shown(counts: Sequence[Sequence[int]]) -> list[int]:
    """Indices of the labels with the most mistakes, in order."""
    everyone = range(len(counts))
    wrong = [sum(counts[i]) + sum(row[i] for row in counts) - 2 * counts[i][i] for i in everyone]
    return sorted(sorted(everyone, key=lambda i: (-wrong[i], i))[:MOST_LABELS])


def _short(label: str) -> str:
    kept = next(size for size in range(len(label), -1, -1) if svg.text_width(label[:size]) <= _LABEL)
    return label if kept == len(label) else f"{label[: kept - 1]}…"
