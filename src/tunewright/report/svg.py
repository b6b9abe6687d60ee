"""Small building blocks of inline SVG. Colours are classes of page.css, so charts follow light, dark and print."""

from __future__ import annotations

import re
import unicodedata
from html import escape

from tunewright.report.scale import Axis

CHARACTER = 6.9
"""Mean width in pixels of a Latin character at the charts' 12 pixel type; Han characters take 12."""


def text_width(text: str) -> float:
    """Rough width of `text` in pixels."""
    return sum(12.0 if unicodedata.east_asian_width(letter) in "WF" else CHARACTER for letter in text)


def text(x: float, y: float, content: str, kind: str = "", anchor: str = "start") -> str:
    """One line of text; `content` is escaped here."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(content)}</text>'


def line(start: tuple[float, float], end: tuple[float, float], kind: str) -> str:
    """A straight line between two points."""
    return f'<line x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}" class="{kind}"/>'


def path(points: list[tuple[float, float]], kind: str) -> str:
    """An open line through `points`."""
    steps = " ".join(f"{'M' if index == 0 else 'L'}{x:.1f} {y:.1f}" for index, (x, y) in enumerate(points))
    return f'<path d="{steps}" class="{kind}"/>'


def marker(x: float, y: float, shape: str, kind: str) -> str:
    """A mark of about 10 pixels: circle, square, diamond or triangle."""
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" class="{kind}"/>'
    corners: dict[str, tuple[tuple[float, float], ...]] = {
        "square": ((-4.5, -4.5), (4.5, -4.5), (4.5, 4.5), (-4.5, 4.5)),
        "diamond": ((0, -6), (6, 0), (0, 6), (-6, 0)),
        "triangle": ((0, -5.5), (5.5, 4.5), (-5.5, 4.5)),
    }
    return f'<polygon points="{" ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners[shape])}" class="{kind}"/>'


def whisker_x(low: float, high: float, y: float, kind: str) -> str:
    """A horizontal interval with end caps; low, high, y in pixels."""
    caps = "".join(line((x, y - 3.5), (x, y + 3.5), kind) for x in (low, high))
    return line((low, y), (high, y), kind) + caps


def whisker_y(low: float, high: float, x: float, kind: str) -> str:
    """A vertical interval with end caps; low, high, x in pixels."""
    caps = "".join(line((x - 3.5, y), (x + 3.5, y), kind) for y in (low, high))
    return line((x, low), (x, high), kind) + caps


def bottom_axis(axis: Axis, *, top: float, bottom: float, title: str) -> str:
    """Grid lines, tick labels and the title with its unit below."""
    drawn = []
    for tick in axis.ticks:
        x = axis.at(tick)
        drawn.append(line((x, top), (x, bottom), "grid"))
        drawn.append(text(x, bottom + 16, axis.label(tick), "tick", "middle"))
    drawn.append(text((axis.start + axis.stop) / 2, bottom + 34, title, "axis-title", "middle"))
    return "".join(drawn)


def left_axis(axis: Axis, *, left: float, right: float, title: str) -> str:
    """Grid lines, tick labels and the title with its unit above the axis (upright: readable on a phone)."""
    drawn = []
    for tick in axis.ticks:
        y = axis.at(tick)
        drawn.append(line((left, y), (right, y), "grid"))
        drawn.append(text(left - 7, y + 4, axis.label(tick), "tick", "end"))
    drawn.append(text(0, min(axis.start, axis.stop) - 12, title, "axis-title"))
    return "".join(drawn)


def document(body: str, *, width: float, height: float, title: str, description: str) -> str:
    """The whole chart. Screen readers get `title` and `description`."""
    name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") + f"-{width:.0f}"
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" role="img" '
        f'aria-labelledby="{name}-t {name}-d" class="chart">'
        f'<title id="{name}-t">{escape(title)}</title><desc id="{name}-d">{escape(description)}</desc>{body}</svg>'
    )
