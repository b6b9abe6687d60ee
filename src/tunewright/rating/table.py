"""Results as text, for people: the verdict first."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from tunewright.rating.preference import Pair
from tunewright.rating.results import Rate, Results
from tunewright.rating.store import Progress
from tunewright.rating.study import LEVELS


def text(found: Results, progress: dict[str, Progress]) -> str:
    """Everything measured. progress: by rater, those without a vote too."""
    if not found.votes:
        return "\n".join([*_progress(found, progress), "no votes yet"])
    parts = [_preferences(found), _levels(found), _agreement(found), _progress(found, progress)]
    return "\n\n".join("\n".join(part) for part in parts)


def _preferences(found: Results) -> list[str]:
    lines = [f"{found.votes} votes on {found.items} items"]
    for pair in found.pairs:
        lines += [f"{pair.second} against {pair.first}: {pair.verdict}", *_pair(pair)]
    if found.ranking:
        lines += ["strength (Bradley-Terry with a prior), log-odds against the average, and the chance to beat it"]
        rows = [
            (one.system, f"{one.value:+.2f} [{one.low:+.2f}, {one.high:+.2f}]", f"{one.chance:.2f}")
            for one in found.ranking
        ]
        lines += _aligned(rows)
    return lines


def _pair(pair: Pair) -> list[str]:
    votes = ", ".join(f"{name} {pair.votes[name]}" for name in (pair.second, pair.first, "tie"))
    low, high = pair.interval
    lines = [f"  votes: {votes}, both bad {pair.votes['both_bad']}"]
    if pair.rate is not None:
        lines.append(
            f"  {pair.second} wins {pair.rate:.3f} [{low:.3f}, {high:.3f}] of {pair.decided} decided items "
            f"({pair.items - pair.decided} undecided)"
        )
    return lines


def _levels(found: Results) -> list[str]:
    head = ("dimension", "system", *reversed(LEVELS), "mean (0-2)", "items")
    rows = [
        (
            one.dimension,
            one.system,
            *(str(n) for n in reversed(one.counts)),
            _mean(one.mean, one.low, one.high),
            str(one.items),
        )
        for one in found.levels
    ]
    gaps = [
        f"  {gap.dimension}: {gap.second} - {gap.first} {gap.difference:+.2f} "
        f"[{gap.low:+.2f}, {gap.high:+.2f}], {gap.verdict}"
        for gap in found.gaps
    ]
    return [*_aligned([head, *rows]), *gaps]


def _mean(value: float, low: float, high: float) -> str:
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _agreement(found: Results) -> list[str]:
    rows = [("agreement of raters", "alpha (Krippendorff)", "raw", "rated twice or more")]
    for name, alpha in found.alpha.items():
        kind = "nominal" if name == "preference" else "ordinal"
        rows.append((f"{name} ({kind})", alpha.text, found.raw[name].text, str(alpha.n)))
    return _aligned(rows)


def _progress(found: Results, progress: dict[str, Progress]) -> list[str]:
    reports = {rater.name: rater for rater in found.raters}
    rows: list[tuple[str, ...]] = [("rater", "done", "skipped", "same vote on repeats", "same levels", "left side won")]
    for name, done in progress.items():
        report = reports.get(name)
        rates = (report.preference, report.levels, report.left) if report else (Rate(0, 0),) * 3
        rows.append((name, f"{done.done} of {done.total}", str(done.skipped), *(_rate(rate) for rate in rates)))
    return _aligned(rows)


def _rate(rate: Rate) -> str:
    if rate.value is None:
        return "-"
    low, high = rate.interval
    return f"{rate.value:.2f} [{low:.2f}, {high:.2f}] of {rate.n}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(_width(row[column]) for row in rows) for column in range(len(rows[0]))]
    padded = [[cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)] for row in rows]
    return ["  " + "  ".join(cells).rstrip() for cells in padded]


def _width(text: str) -> int:
    """Columns in a terminal: a Han character takes two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
