"""The two drawings of the page as inline SVG: the rows as one bar, and lengths as a histogram.

Colours are classes of page.css; every part is also named in text.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from html import escape

_LETTER, _HAN = 6.9, 12.0
"""Mean width of a character in pixels, at the 12 pixel type of page.css."""
_MOST_BARS = 40


def rows_bar(parts: Sequence[tuple[str, int]], *, width: int) -> str:
    """One bar of all rows read, and a legend with the counts. parts: (action, rows)."""
    total = sum(count for _, count in parts)
    drawn, x = "", 0.0
    for name, count in parts:
        size = width * count / total if total else 0.0
        drawn += f'<rect x="{x:.1f}" y="0" width="{size:.1f}" height="26" class="part {name}"/>' if count else ""
        x += size
    legend, height = _legend(parts, total, width)
    words = ", ".join(f"{count:,} {name}" for name, count in parts)
    return _svg(drawn + legend, width=width, height=height, title="Rows by what became of them", description=words)


def _legend(parts: Sequence[tuple[str, int]], total: int, width: int) -> tuple[str, int]:
    drawn, x, y = "", 0.0, 50
    for name, count in parts:
        label = f"{name} {count:,}" + (f" ({count / total:.1%})".replace("%", " %") if total else "")
        needed = 18 + _width(label) + 18
        if x and x + needed > width:
            x, y = 0.0, y + 22
        drawn += f'<rect x="{x:.1f}" y="{y - 10}" width="11" height="11" class="part {name}"/>'
        drawn += _text(x + 17, y, label)
        x += needed
    return drawn, y + 8


def histogram(edges: Sequence[float], counts: Sequence[int], *, width: int, limit: int | None = None) -> str:
    """Bars of `counts` (sequences) between `edges` (tokens, one more than counts); limit: max_length, drawn as a line.

    Bars are of one width when the edges are not evenly spaced, and each carries its edges as labels where they fit.
    """
    edges, counts = _thinned(edges, counts)
    left, right, top, bottom = 52, width - 16, 30, 190
    step = (right - left) / max(len(counts), 1)
    highest = _round_up(max(counts, default=0))
    drawn = "".join(_rule(part, highest, across=(left, right), upward=(bottom, top)) for part in range(5))
    for number, count in enumerate(counts):
        size = (bottom - top) * count / highest
        x = left + number * step
        name = f"{edges[number]:,.0f} to {edges[number + 1]:,.0f} tokens: {count:,}"
        drawn += (
            f'<rect x="{x + 0.5:.1f}" y="{bottom - size:.1f}" width="{max(step - 1, 0.5):.1f}" height="{size:.1f}" '
            f'class="bar"><title>{escape(name)}</title></rect>'
        )
    drawn += _edge_labels(edges, left, step, bottom)
    drawn += _text(0, 14, "sequences", "tick") + _text((left + right) / 2, bottom + 36, "tokens", "tick", "middle")
    if limit is not None and edges[0] <= limit <= edges[-1]:
        drawn += _limit(_position(limit, edges, left, step), limit, top, bottom, width)
    peak = counts.index(max(counts)) if counts else 0
    words = f"{sum(counts):,} sequences; most between {edges[peak]:,.0f} and {edges[peak + 1]:,.0f} tokens."
    return _svg(drawn, width=width, height=bottom + 44, title="Lengths of the sequences", description=words)


def _thinned(edges: Sequence[float], counts: Sequence[int]) -> tuple[list[float], list[int]]:
    """At most _MOST_BARS bars: neighbours are added up."""
    size = max(1, math.ceil(len(counts) / _MOST_BARS))
    joined = [sum(counts[at : at + size]) for at in range(0, len(counts), size)]
    return [*edges[: len(counts) : size], edges[len(counts)]], joined


def _round_up(value: int) -> int:
    """The next of 4, 8, 12, 20, 40, 80 ... so that quarters of it are whole."""
    power = 4
    while True:
        for factor in (1, 2, 3, 5):
            if power * factor >= value:
                return power * factor
        power *= 10


def _rule(quarter: int, highest: int, *, across: tuple[float, float], upward: tuple[float, float]) -> str:
    """The grid line and the label of so many quarters of `highest`."""
    y = upward[0] + (upward[1] - upward[0]) * quarter / 4
    line = f'<line x1="{across[0]}" y1="{y:.1f}" x2="{across[1]}" y2="{y:.1f}" class="grid"/>'
    return line + _text(across[0] - 7, y + 4, f"{highest * quarter // 4:,}", "tick", "end")


def _edge_labels(edges: Sequence[float], left: float, step: float, bottom: float) -> str:
    """As many edges as have room, the first and every n-th after it."""
    widest = max(_width(f"{edge:,.0f}") for edge in edges) + 14
    every = max(1, math.ceil(widest / step))
    return "".join(
        _text(left + number * step, bottom + 17, f"{edges[number]:,.0f}", "tick", "middle")
        for number in range(0, len(edges), every)
    )


def _position(value: float, edges: Sequence[float], left: float, step: float) -> float:
    number = next((n for n in range(len(edges) - 1) if value <= edges[n + 1]), len(edges) - 2)
    span = edges[number + 1] - edges[number]
    return left + step * (number + ((value - edges[number]) / span if span else 0))


def _limit(x: float, limit: int, top: float, bottom: float, width: float) -> str:
    label = f"max_length {limit:,}"
    anchor = "end" if x + _width(label) > width else "start"
    line = f'<line x1="{x:.1f}" y1="{top - 8}" x2="{x:.1f}" y2="{bottom}" class="limit"/>'
    return line + _text(x + (-6 if anchor == "end" else 6), top - 10, label, "tick", anchor)


def _width(text: str) -> float:
    return sum(_HAN if unicodedata.east_asian_width(letter) in "WF" else _LETTER for letter in text)


def _text(x: float, y: float, content: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(content)}</text>'


def _svg(body: str, *, width: int, height: int, title: str, description: str) -> str:
    name = f"{title.split()[0].lower()}-{width}"
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" class="chart" '
        f'aria-labelledby="{name}-t {name}-d"><title id="{name}-t">{escape(title)}</title>'
        f'<desc id="{name}-d">{escape(description)}</desc>{body}</svg>'
    )
