"""The table as text, for the screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunewright.core.files import human_bytes

HEADER = ("scheme", "size", "ratio", "tok/s", "latency", "score", "change", "p", "ppl", "same text", "engine", "")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """table.json as aligned lines, the notes below."""
    cells = [HEADER, *map(_cells, rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADER))]
    last = len(HEADER) - 1
    lines = [
        "  ".join(
            cell.ljust(width) if column in (0, last - 1, last) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
    metric = next((str(row["task_metric"]) for row in rows), "")
    notes = [f"  {row['scheme']}: {row['note']}" for row in rows if row["note"]]
    return "\n".join([f"quantized variants (score: {metric}; change and same text against 16 bits)", *lines, *notes])


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        str(row["scheme"]),
        human_bytes(row["bytes"]),
        f"{row['ratio']:.2f}",
        f"{row['tokens_per_second']:.1f}",
        f"{row['latency_s']:.2f} s",
        f"{row['task_score']:.3f}",
        f"{row['task_change']:+.3f}",
        f"{row['task_p']:.2g}",
        f"{row['perplexity']:.2f}",
        f"{row['agreement']:.0%}",
        str(row["engine"]),
        "accepted" if row["accepted"] else "REFUSED",
    )
