"""The page of a sweep: learning rate against score, budget against score, the table. One file, no script."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any

from tunewright.advise.result import HEADER, row_cells, state
from tunewright.report import svg
from tunewright.report.numbers import scale_of
from tunewright.report.scale import Axis, axis

WIDE, NARROW = 720, 340
SHAPES = {"lora": "circle", "full": "square", "ia3": "diamond"}
LOSS = "validation_loss"
Trials = Sequence[Mapping[str, Any]]
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{css}</style></head><body>
<h1>{title}</h1>
<div class="verdict {kind}"><strong>Trial {best}</strong><p>{best_words}.</p><p>{against}</p></div>
<h2>Learning rate</h2>
<p>Each mark is a setting at the largest budget it reached. Filled: trained to the end. Hollow: stopped early, so its
score is that of a shorter training. Whiskers: 95&nbsp;% intervals.</p>
<figure>{rates}</figure>
<h2>Budget</h2>
<p>All settings train a little, one in {eta} goes on. The proposal of the rules always does.</p>
<figure>{budgets}</figure>
<h2>Settings</h2>
<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>
<p class="small soft">Seed {seed}. Validation rows only; the test split was not opened.
{seconds:.0f} s in all. {ended}</p>
</body></html>
"""


def page(found: Mapping[str, Any], project: str) -> str:
    """HTML of the document that result.py makes."""
    css = resources.files("tunewright.report").joinpath("page.css").read_text(encoding="utf-8")
    return _PAGE.format(
        title=f"Sweep of {escape(project)}: {escape(found['metric'])}",
        css=css,
        kind="better" if _is_shown(found) else "even",
        best=found["best"],
        best_words=escape(found["best_in_words"]),
        against=escape(_against(found)),
        eta=found["eta"],
        rates=_both(lambda width: rate_chart(found, width=width)),
        budgets=_both(lambda width: budget_chart(found, width=width)),
        head="".join(f"<th>{escape(name)}</th>" for name in HEADER),
        rows="".join(_table_row(trial, found) for trial in found["trials"]),
        seed=found["seed"],
        seconds=found["seconds"],
        ended="" if found["complete"] else "The time ended the sweep before its last trial.",
    )


def _both(draw: Any) -> str:
    return f'<div class="wide">{draw(WIDE)}</div><div class="narrow">{draw(NARROW)}</div>'


def _is_shown(found: Mapping[str, Any]) -> bool:
    return bool(found["against_rules"]) and str(found["against_rules"]["verdict"]).startswith("better")


def _against(found: Mapping[str, Any]) -> str:
    difference = found["against_rules"]
    if difference is None:
        is_rules = any(trial["is_best"] and trial["origin"] == "rules" for trial in found["trials"])
        return "This is the proposal of the rules." if is_rules else "It was not compared with the rules' proposal."
    change = scale_of(found["metric"]).change(difference["difference"])
    return f"Against the proposal of the rules: {change}, {difference['verdict']}."


def _dot(reached: Mapping[str, Any], metric: str) -> tuple[float, float, float] | None:
    """(low, value, high) in axis units; None where a loss is not finite."""
    scale = scale_of(metric)
    if reached["score"]:
        return (
            reached["score"]["low"] * scale.factor,
            reached["score"]["value"] * scale.factor,
            reached["score"]["high"] * scale.factor,
        )
    loss = reached["validation_loss"]
    return None if loss is None else (loss, loss, loss)


def _unit(metric: str) -> str:
    return "validation loss (nats per trained token)" if metric == LOSS else f"{metric} ({scale_of(metric).unit})"


def _upward(dots: Sequence[tuple[float, float, float]], *, top: float, bottom: float) -> Axis:
    return axis([value for dot in dots for value in dot], start=bottom, stop=top)


def rate_chart(found: Mapping[str, Any], *, width: int) -> str:
    """Learning rate on a log axis against the score at the largest budget reached."""
    trials = [trial for trial in found["trials"] if trial["budgets"] and _dot(trial["budgets"][-1], found["metric"])]
    left, right, top, bottom = 52, width - 16, 66, 300
    dots = [_dot(trial["budgets"][-1], found["metric"]) or (0.0, 0.0, 0.0) for trial in trials]
    upward = _upward(dots, top=top, bottom=bottom)
    rates = [math.log10(trial["learning_rate"]) for trial in trials]
    low, high = min(rates) - 0.1, max(rates) + 0.1

    def across(rate: float) -> float:
        return left + (math.log10(rate) - low) / (high - low) * (right - left)

    body = "".join(
        svg.line((across(tick), top), (across(tick), bottom), "grid")
        + svg.text(across(tick), bottom + 16, f"{tick:g}", "tick", "middle")
        for tick in rate_ticks(10**low, 10**high)
    )
    body += svg.text((left + right) / 2, bottom + 34, "learning rate (log scale)", "axis-title", "middle")
    body += svg.left_axis(upward, left=left, right=right, title=_unit(found["metric"])) + _legend(trials)
    for trial, (bad, value, good) in zip(trials, dots, strict=True):
        x = across(trial["learning_rate"])
        kind = "accepted" if not state(trial, found) or trial["is_best"] else "refused"
        body += svg.whisker_y(upward.at(bad), upward.at(good), x, f"line {kind}")
        body += svg.marker(x, upward.at(value), SHAPES.get(trial["method"], "triangle"), f"mark {kind}")
        words = f"{trial['number']} best" if trial["is_best"] else str(trial["number"])
        is_right = x + 10 + svg.text_width(words) < right
        body += svg.text(
            x + 9 if is_right else x - 9, upward.at(value) - 7, words, "note", "start" if is_right else "end"
        )
    said = "; ".join(
        f"trial {t['number']}: {t['learning_rate']:g}, {d[1]:.3g}" for t, d in zip(trials, dots, strict=True)
    )
    return svg.document(body, width=width, height=bottom + 42, title="Learning rate against score", description=said)


def rate_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten inside [low, high]."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [float(f"{factor}e{power}") for power in powers for factor in (1, 2, 5)]
    return [tick for tick in found if low <= tick <= high]


def _legend(trials: Trials) -> str:
    drawn, x = "", 8.0
    for method in dict.fromkeys(trial["method"] for trial in trials):
        drawn += svg.marker(x, 14, SHAPES.get(method, "triangle"), "mark accepted") + svg.text(x + 10, 18, method)
        x += 26 + svg.text_width(method)
    return drawn


def budget_chart(found: Mapping[str, Any], *, width: int) -> str:
    """Share of the full budget against the score: one line a trial, ending where it was stopped."""
    left, right, top, bottom = 52, width - 40, 40, 274
    lines = [
        (trial, [(reached["share"], dot) for reached in trial["budgets"] if (dot := _dot(reached, found["metric"]))])
        for trial in found["trials"]
    ]
    upward = _upward([dot for _, points in lines for _, dot in points], top=top, bottom=bottom)
    places = {share: left + 14 + (right - left - 28) * index / max(1, len(found["budgets"]) - 1)
              for index, share in enumerate(found["budgets"])}  # fmt: skip
    body = "".join(
        svg.line((x, top), (x, bottom), "grid") + svg.text(x, bottom + 16, f"{share:.0%}", "tick", "middle")
        for share, x in places.items()
    )
    body += svg.text((left + right) / 2, bottom + 34, "share of the training steps", "axis-title", "middle")
    body += svg.left_axis(upward, left=left, right=right, title=_unit(found["metric"]))
    for trial, points in lines:
        kind = "accepted" if trial["is_best"] else "validation" if trial["origin"] == "rules" else "base"
        pixels = [(places[share], upward.at(dot[1])) for share, dot in points]
        if len(pixels) > 1:
            body += svg.path(pixels, f"line {kind}")
        body += "".join(svg.marker(x, y, SHAPES.get(trial["method"], "triangle"), f"mark {kind}") for x, y in pixels)
        if pixels and (trial["is_best"] or trial["origin"] == "rules"):
            x, y = pixels[-1]
            body += svg.text(x + 9, y + 4, "best" if trial["is_best"] else "rules", "note")
    said = f"{len(lines)} settings over budgets of {', '.join(f'{share:.0%}' for share in found['budgets'])}"
    return svg.document(body, width=width, height=bottom + 42, title="Budget against score", description=said)


def _table_row(trial: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row_cells(trial, found)) + "</tr>"
