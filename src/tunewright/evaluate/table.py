"""The text table: base against tuned, and the rivals below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_HEADER = ("metric", "base", "tuned", "n", "tuned - base", "p", "verdict")
_TEXT_COLUMNS = (0, 6)
_RIVALS_HEADER = ("rival", "metric", "score", "n", "tuned - rival", "p", "verdict", "s/answer", "cost of 1,000")
_RIVALS_TEXT_COLUMNS = (0, 1, 6)


def table(scores: Mapping[str, Any]) -> str:
    """`scores` is the content of scores.json; one line a metric, the primary one marked with *. A cheaper rival that is
    as good stands first; the rivals stand below."""
    rows = [_HEADER]
    for key, tuned in scores["tuned"].items():
        base, paired = scores["base"][key], scores["paired"][key]
        name = f"{key} *" if key == scores["primary"] else key
        unit = f" {tuned['unit']}" if tuned["unit"] in ("s", "1/s") else ""
        difference = f"{_signed(paired['difference'], tuned)} [{_number(paired['low'], tuned)}, " + (
            f"{_number(paired['high'], tuned)}]"
        )
        rows.append(
            (name, _score(base, unit), _score(tuned, unit), str(tuned["n"]), difference, f"{_counted(paired):.2g}",
             paired["verdict"].partition(" (")[0])
        )  # fmt: skip
    cheaper = scores.get("cheaper_rival")
    lines = [*([cheaper["sentence"], ""] if cheaper else []), *_aligned(rows, _TEXT_COLUMNS)]
    corrected = sum("p_holm" in paired for paired in scores["paired"].values()) - 1
    if corrected > 1:
        lines.append(f"* primary; p of the {corrected} further metrics is corrected for their number (Holm)")
    if scores.get("rivals"):
        lines += ["", *rivals_table(scores), ""]
    lines += [f"gate {'passed' if gate['passed'] else 'FAILED'}: {gate['reason']}" for gate in scores["gates"]]
    return "\n".join(lines)


def rivals_table(scores: Mapping[str, Any]) -> list[str]:
    """A line a rival on the primary metric, or on its first metric where it is not scored on that one; below, what an
    answer of the tuned model takes."""
    rows = [_RIVALS_HEADER]
    for rival in scores["rivals"]:
        key = scores["primary"] if scores["primary"] in rival["paired"] else next(iter(rival["paired"]), "")
        cost = rival["cost_per_thousand"]
        ends = (f"{rival['seconds_per_answer']:.3g}", "" if cost is None else f"{cost:.4g} {rival['currency']}")
        if not key:
            rows.append((rival["name"], "no metric applies", *[""] * 5, *ends))
            continue
        score, paired = rival["scores"][key], rival["paired"][key]
        difference = f"{_signed(paired['difference'], score)} [{_number(paired['low'], score)}, " + (
            f"{_number(paired['high'], score)}]"
        )
        verdict = f"tuned {paired['verdict'].partition(' (')[0]}".replace("tuned no", "no")
        rows.append(
            (rival["name"], key, _score(score, ""), str(score["n"]), difference, f"{_counted(paired):.2g}", verdict,
             *ends)
        )  # fmt: skip
    seconds = scores["notes"].get("tuned", {}).get("seconds_per_answer")
    timed = (
        [] if seconds is None else [f"s/answer of the tuned model: {seconds:.3g}, asked one by one as the rivals are"]
    )
    return [*_aligned(rows, _RIVALS_TEXT_COLUMNS), *timed]


def _counted(paired: Mapping[str, Any]) -> float:
    """The p value that the verdict goes by."""
    return float(paired.get("p_holm", paired["p"]))


def _score(score: Mapping[str, Any], unit: str) -> str:
    value, low, high = (_number(score[name], score) for name in ("value", "low", "high"))
    return f"{value}{unit} [{low}, {high}]"


def _number(value: float, score: Mapping[str, Any]) -> str:
    return f"{value:.1f}" if score["unit"] in ("points", "1/s") else f"{value:.3f}"


def _signed(value: float, score: Mapping[str, Any]) -> str:
    return f"{'+' if value >= 0 else ''}{_number(value, score)}"


def _aligned(rows: Sequence[Sequence[str]], text_columns: Sequence[int]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column in text_columns else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]
