"""The text table: base against tuned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_HEADER = ("metric", "base", "tuned", "n", "tuned - base", "p", "verdict")
_TEXT_COLUMNS = (0, 6)


def table(scores: Mapping[str, Any]) -> str:
    """`scores` is the content of scores.json; one line a metric, the primary one marked with *."""
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
    lines = _aligned(rows)
    corrected = sum("p_holm" in paired for paired in scores["paired"].values()) - 1
    if corrected > 1:
        lines.append(f"* primary; p of the {corrected} further metrics is corrected for their number (Holm)")
    lines += [f"gate {'passed' if gate['passed'] else 'FAILED'}: {gate['reason']}" for gate in scores["gates"]]
    return "\n".join(lines)


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


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column in _TEXT_COLUMNS else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]
