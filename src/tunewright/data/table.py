"""The report as text for the screen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def table(report: Mapping[str, Any]) -> str:
    """Counts, splits, then a line for every code with the first example and where it stands. report: report.json."""
    return "\n".join([*_counts(report), *_codes(report), *_tokens(report)]) + "\n"


def _counts(report: Mapping[str, Any]) -> Iterator[str]:
    names = ("read", "kept", "repaired", "quarantined", *(["filtered"] if report["filtered"] else []))
    yield "rows   " + "  ".join(f"{name} {report[name]}" for name in names) + _aside(report)
    splits = "  ".join(f"{name} {count}" for name, count in report["splits"].items())
    left_out = f"  (left out by max_train_rows: {report['left_out']})" if report["left_out"] else ""
    yield f"splits {splits}{left_out}"
    yield from _leakage(report["leakage"]["sets"])
    yield from _extras(report)


def _extras(report: Mapping[str, Any]) -> Iterator[str]:
    for name, made in report.get("augment", {}).items():
        dropped = sum(rule["count"] for rule in made["dropped"].values())
        yield f"augment {name}: {made['variants']} variants, {dropped} dropped"
    if report.get("annotation"):
        found = report["annotation"]
        yield f"annotation {found['double']} rows with two or more labels, {found['metric']} {_agreed(found)}"
    personal = {key: count for key, count in report.get("tallies", {}).items() if key.startswith("pii.")}
    if personal:
        yield "masked " + "  ".join(f"{key.removeprefix('pii.')} {count}" for key, count in personal.items())


def _agreed(found: Mapping[str, Any]) -> str:
    value = found[found["metric"]].get("value")
    return "undefined" if value is None else f"{value:.3f}"


def _leakage(sets: Mapping[str, Any]) -> Iterator[str]:
    for name, found in sets.items():
        counts = [f"{found[kind]['rows']} {words}" for kind, words in _LEAKS.items() if found[kind]["rows"]]
        if counts:
            yield f"leakage {name}: of {found['rows']} rows {', '.join(counts)}"


_LEAKS = {
    "exact": "ask a training question",
    "near": "are near duplicates of a training row",
    "overlap": "share a long passage with one",
    "groups": "share a group with one",
}


def _aside(report: Mapping[str, Any]) -> str:
    return f"  ({report['duplicates']} of the quarantined are duplicates)" if report["duplicates"] else ""


def _codes(report: Mapping[str, Any]) -> Iterator[str]:
    rows = [
        (action, code, str(entry["count"]), f"{example['source']}:{example['line']}", str(example["reason"]))
        for action in ("repaired", "quarantined", "kept")
        for code, entries in report["by_code"].items()
        for entry in [entries["by_action"].get(action)]
        if entry
        for example in [entry["example"]]
    ]
    if rows:
        yield ""
        yield from _aligned([("action", "code", "rows", "first example", "reason"), *rows])


def _tokens(report: Mapping[str, Any]) -> Iterator[str]:
    head = ("split", "rows", "sequences", "tokens", "trained", "mean", "max", "cut")
    keys = ("rows", "sequences", "tokens", "trained_tokens", "mean_tokens", "max_tokens", "rows_cut")
    rows = [(name, *(str(t[key]) for key in keys)) for name, t in report["tokens"]["splits"].items() if t["rows"]]
    if rows:
        yield ""
        yield from _aligned([head, *rows])


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
