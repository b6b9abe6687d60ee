"""From report.json and rendered samples to one HTML text: no script, no outside file, everything escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from tunewright.data.page import parts, rows
from tunewright.data.page.tables import Section, readable
from tunewright.data.show import Segment, ShownSequence, View, to_html

WIDE, NARROW = 720, 340
"""Pixels: each chart is drawn for a desk and for a phone, and the style sheet shows one of them."""
MOST_SAMPLES, MOST_SEQUENCES, MOST_CHARS = 12, 6, 6000
"""Shown of all samples, of the sequences of a sample, and of the text of a sequence (its beginning and its end)."""


def page(report: Mapping[str, Any], samples: Sequence[View], *, title: str = "Data") -> str:
    """The page of a data artifact. report: report.json; samples: `show.sample_views` of its rows."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_packaged("page.html.j2"))
    # The style sheet is ours and holds no text from outside.
    text = template.render(
        css=Markup(_packaged("page.css")),  # noqa: S704
        title=readable(title),
        summary=summary(report),
        sections=[(section, [_both(draw) for draw in section.figures]) for section in sections(report)],
        samples=[_sample(view) for view in samples[:MOST_SAMPLES]],
    )
    return text.encode("utf-8", "replace").decode("utf-8")


def sections(report: Mapping[str, Any]) -> list[Section]:
    """What the report holds, in reading order."""
    return parts.present(
        [
            rows.rows_section(report),
            rows.findings_section(report),
            rows.splits_section(report),
            parts.leakage_section(report),
            parts.near_section(report),
            parts.tallies_section(report),
            *parts.other_sections(report),
            rows.tokens_section(report),
        ]
    )


def summary(report: Mapping[str, Any]) -> str:
    """The first sentence of the page."""
    usable = report["kept"] + report["repaired"]
    splits = ", ".join(f"{count:,} {name}" for name, count in report["splits"].items())
    return f"{usable:,} of {report['read']:,} rows can be used: {splits}."


def _packaged(name: str) -> str:
    return resources.files("tunewright.data.page").joinpath(name).read_text(encoding="utf-8")


def _both(draw: Any) -> Markup:
    """A chart for the desk and one for the phone. Charts escape their texts themselves."""
    wide, narrow = (
        f'<div class="{kind}">{draw(width=width)}</div>' for kind, width in (("wide", WIDE), ("narrow", NARROW))
    )
    return Markup(wide + narrow)  # noqa: S704


def _sample(view: View) -> dict[str, Any]:
    shown = view.sequences[:MOST_SEQUENCES]
    return {
        "id": readable(view.id),
        "split": view.split,
        "why": view.why,
        "turns": view.turns,
        "left_out": len(view.sequences) - len(shown),
        # `to_html` escapes the text of a row.
        "sequences": [(one.counts, Markup(to_html(clipped(one, MOST_CHARS)))) for one in shown],  # noqa: S704
    }


def clipped(sequence: ShownSequence, most: int) -> ShownSequence:
    """The sequence with at most about `most` characters: the middle is left out, and how much of it is said."""
    total = sum(len(segment.text) for segment in sequence.segments)
    if total <= most:
        return sequence
    head, tail = most // 3, most - most // 3
    kept: list[Segment] = []
    at, is_said = 0, False
    for segment in sequence.segments:
        start, end = at, at + len(segment.text)
        at = end
        front, back = segment.text[: max(0, head - start)], segment.text[max(0, total - tail - start) :]
        if end <= head or start >= total - tail:
            kept.append(segment)
            continue
        kept += [_part(segment, front)] if front else []
        if not is_said:
            kept.append(Segment(f"\n… {total - most:,} characters are not shown …\n", False, False, 0))
            is_said = True
        kept += [_part(segment, back)] if back else []
    return ShownSequence(tuple(kept), sequence.tokens, sequence.trained, sequence.cut)


def _part(segment: Segment, text: str) -> Segment:
    return Segment(text, segment.trained, segment.special, segment.tokens)
