"""The table as text, for the screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunewright.core.files import human_bytes

HEADER = (
    *("scheme", "size", "predicted", "ratio", "tok/s b1", "tok/s b8", "latency", "memory", "score", "95 %", "change"),
    *("p", "ppl", "p ppl", "same text", "engine", ""),
)


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
    notes = [f"  {row['scheme']}: {row[key]}" for key in ("note", "article") for row in rows if row.get(key)]
    builds = sorted({f"  {row['engine']}: {row['engine_build']}" for row in rows})
    title = f"quantized variants (score: {metric}; change, p and same text against 16 bits; predicted from the shapes)"
    return "\n".join([title, *lines, *builds, *notes])


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        str(row["scheme"]),
        human_bytes(row["bytes"]),
        human_bytes(row["predicted_bytes"]) if row.get("predicted_bytes") else "",
        f"{row['ratio']:.2f}",
        f"{row['tokens_per_second']:.1f}",
        f"{row['tokens_per_second_b8']:.1f}",
        f"{row['latency_s']:.2f} s",
        human_bytes(row["peak_bytes"]),
        f"{row['task_score']:.3f}",
        f"[{row['task_low']:.3f}, {row['task_high']:.3f}]",
        f"{row['task_change']:+.3f}",
        f"{row['task_p']:.2g}",
        f"{row['perplexity']:.2f}",
        f"{row['perplexity_p']:.2g}",
        f"{row['agreement']:.0%}",
        str(row["engine"]),
        "accepted" if row["accepted"] else "REFUSED",
    )
