"""The chain as text, for the screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

HEADER = ("link", "against", "logits", "same", "ties", "tokens", "score", "95 %", "change", "p", "")
_LEFT = (0, 1, len(HEADER) - 1)


def table(document: Mapping[str, Any]) -> str:
    """chain.json as aligned lines, then bounds, reasons and verdict."""
    links: Sequence[Mapping[str, Any]] = document["links"]
    cells = [HEADER, *map(_cells, links)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADER))]
    lines = [
        "  ".join(
            cell.ljust(width) if column in _LEFT else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
    metric = next((link["score"]["metric"] for link in links if link["score"]), "")
    head = (
        f"proof chain over {document['rows']} test rows (score: {metric}; change and p against "
        f"{document['reference']}; logits: largest difference; same: equal answers; ties: parted where two tokens tie; "
        "tokens: before the first difference)"
    )
    notes = [f"  {link['link']}: {reason}" for link in links for reason in link["reasons"]]
    bounds = [f"bounds: {document['bounds']['reason']}"] if document["bounds"] else []
    return "\n".join([head, *lines, *notes, *bounds, _rendered(document), document["verdict"]["sentence"]])


def _rendered(document: Mapping[str, Any]) -> str:
    trained = document["rendering"]["training"]
    stops = ", ".join(trained["stop_tokens"] or ()) or "none"
    template = str(trained["chat_template_sha256"])[:12]
    return f"training: template {template}, {trained['bos_tokens']} begin tokens, answers end with {stops}"


def _cells(link: Mapping[str, Any]) -> tuple[str, ...]:
    answers, score, change, logits = link["answers"], link["score"], link["difference"], link["logits"]
    return (
        str(link["link"]),
        str(link["against"] or ""),
        f"{logits['largest']:.2g}" if logits else "",
        f"{answers['same']}/{answers['rows']}" if answers else "",
        str(answers["near_ties"]) if answers else "",
        f"{answers['equal_tokens']:.0%}" if answers else "",
        f"{score['value']:.3f}" if score else "",
        f"{score['low']:.3f}-{score['high']:.3f}" if score else "",
        f"{change['difference']:+.3f}" if change else "",
        f"{change['p']:.2g}" if change else "",
        str(link["status"]).upper() if link["status"] == "broken" else str(link["status"]),
    )
