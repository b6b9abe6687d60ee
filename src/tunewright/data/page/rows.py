"""The sections that every report has: rows and sources, findings by code, splits, tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from tunewright.data.codes import CODES
from tunewright.data.findings import RANK
from tunewright.data.page.charts import histogram, rows_bar
from tunewright.data.page.tables import Cell, Section, Table, readable, share, table, value, words

ACTIONS = ("kept", "repaired", "quarantined", "filtered")
_WORSE: dict[str, int] = {str(action): rank for action, rank in RANK.items()}
"""By words: a report is read from a file, which may hold any."""


def parts(report: Mapping[str, Any]) -> list[tuple[str, int]]:
    """(action, rows); `filtered` only where a filter was set."""
    return [(name, int(report[name])) for name in ACTIONS if name != "filtered" or report.get(name)]


def rows_section(report: Mapping[str, Any]) -> Section:
    """What was read and what became of it; says so when the sum does not hold."""
    found = parts(report)
    holds = sum(count for _, count in found) == report["read"]
    terms = " + ".join(f"{count:,} {name}" for name, count in found)
    sentence = f"{terms} {'=' if holds else '≠'} {report['read']:,} rows read" + (": the sum holds." if holds else ".")
    duplicates = report.get("duplicates", 0)
    more = (f"{duplicates:,} of the quarantined are duplicates.",) if duplicates else ()
    warning = "" if holds else "The rows do not add up. Do not trust this artifact; run the data stage again."
    return Section(
        "rows",
        "Rows",
        (sentence, *more),
        warning,
        (partial(rows_bar, found),),
        (_sources(report, [n for n, _ in found]),),
    )


def _sources(report: Mapping[str, Any], actions: list[str]) -> Table:
    names = ("path", "format", "encoding", "read", *actions)
    rows = [[_of_source(source, name) for name in names] for source in report["sources"]]
    sums = [value(sum(source.get(name, 0) for source in report["sources"])) for name in names[3:]]
    return table("Sources", ["file", *names[1:]], rows, total=[Cell("sum"), Cell(""), Cell(""), *sums])


def _of_source(source: Mapping[str, Any], name: str) -> Cell:
    """A format with the formats of its rows below it."""
    rows = ", ".join(source.get("row_formats") or ()) if name == "format" else ""
    return Cell(readable(source.get(name, "")), sub=readable(rows)) if name == "format" else value(source.get(name, 0))


def findings_section(report: Mapping[str, Any]) -> Section:
    """Every code and action with its count, its meaning, what can be done, and the first example."""
    entries = [
        (action, code, found["count"], found.get("example") or {})
        for code, entry in report["by_code"].items()
        for action, found in (entry.get("by_action") or {entry["action"]: entry}).items()
    ]
    entries.sort(key=lambda entry: (-_WORSE.get(entry[0], 0), -entry[2], entry[1]))
    if not entries:
        return Section("findings", "Findings", ("Nothing was found: every row is clean.",))
    lead = "A row can have several codes and counts once among the rows above, by its worst action."
    titles = ("code", "action", "rows", "what it means", "first example")
    return Section("findings", "Findings", (lead,), tables=(table("", titles, map(_finding, entries)),))


def _finding(entry: tuple[str, str, int, Mapping[str, Any]]) -> tuple[Cell, ...]:
    action, code, count, example = entry
    known = CODES.get(code)
    is_open = known is not None and _WORSE.get(action, 0) >= _WORSE[known.action]
    place = f"{example.get('source', '')}:{example.get('line', '')}".strip(":")
    return (
        Cell(readable(code), "code"),
        Cell(action, f"tag {action}"),
        value(count),
        Cell(known.meaning if known else "", "text", known.next_step if known and is_open else ""),
        Cell(readable(example.get("reason", "")), "text", readable(place), readable(example.get("excerpt", ""))),
    )


def splits_section(report: Mapping[str, Any]) -> Section:
    """Rows of each split, and its samples where a row became several or got variants."""
    splits = {name: int(count) for name, count in report["splits"].items()}
    samples = report.get("samples") or splits
    total = sum(splits.values())
    rows = [(words(name), count, share(count, total), samples.get(name, 0)) for name, count in splits.items()]
    size = 3 if samples == splits else 4
    cells = [[_written(item) for item in row[:size]] for row in rows]
    sums = [_written(item) for item in ("sum", total, "", sum(samples.values()))[:size]]
    left_out = report.get("left_out", 0)
    lead = (f"{left_out:,} usable rows are in no split: data.max_train_rows leaves them out.",) if left_out else ()
    titles = ("split", "rows", "share", "samples")[:size]
    return Section("splits", "Splits", lead, tables=(table("", titles, cells, total=sums),))


def _written(found: str | int) -> Cell:
    """Numbers, and texts that end with a percent sign, stand on the right."""
    return Cell(found, "n" if found.endswith("%") else "") if isinstance(found, str) else value(found)


def tokens_section(report: Mapping[str, Any]) -> Section | None:
    """What the model sees: the token table of each split, and how long sequences are."""
    tokens = report.get("tokens") or {}
    splits = tokens.get("splits") or {}
    if not splits:
        return None
    counted = {name: dict(_flat(split)) for name, split in splits.items()}
    names = list(dict.fromkeys(name for split in counted.values() for name in split))
    rows = [(Cell(name), *(value(split.get(name)) for split in counted.values())) for name in names]
    limit = tokens.get("max_length")
    shape = tokens.get("histogram") or {}
    is_drawn = len(shape.get("counts") or ()) > 0 and len(shape.get("edges") or ()) == len(shape["counts"]) + 1
    drawn = (partial(histogram, shape["edges"], shape["counts"], limit=limit),) if is_drawn else ()
    lead = (f"Sequences hold at most {limit:,} tokens (max_length).",) if limit else ()
    return Section("tokens", "Tokens", lead, "", drawn, (table("", ("counted", *map(words, counted)), rows),))


def _flat(split: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """{"rows": 1, "breaches": {"bos": 0}} -> rows: 1, breaches: bos: 0."""
    for name, found in split.items():
        if isinstance(found, Mapping):
            yield from ((f"{words(name)}: {words(inner)}", item) for inner, item in found.items())
        else:
            yield words(name), found
