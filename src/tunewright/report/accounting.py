"""The data section: what was read, what became of it and why, with sums that are checked here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunewright.report.numbers import readable

ACTIONS = ("kept", "repaired", "filtered", "quarantined")
EXCERPT = 240


@dataclass(frozen=True)
class Accounting:
    """The sums of report.json, with whether they hold."""

    read: int
    parts: tuple[tuple[str, int], ...]
    splits: tuple[tuple[str, int], ...]

    @property
    def adds_up(self) -> bool:
        """kept + repaired + filtered + quarantined = read."""
        return sum(count for _, count in self.parts) == self.read

    @property
    def usable(self) -> int:
        """Kept and repaired rows."""
        return sum(count for name, count in self.parts if name in ("kept", "repaired"))

    @property
    def in_splits(self) -> int:
        """Rows in train, validation and test together."""
        return sum(count for _, count in self.splits)


@dataclass(frozen=True)
class CodeRow:
    """One rule code with an example."""

    code: str
    action: str
    count: int
    place: str
    reason: str
    excerpt: str


def accounting(report: Mapping[str, Any]) -> Accounting:
    """From the data stage's report.json."""
    return Accounting(
        read=report["read"],
        parts=tuple((action, report[action]) for action in ACTIONS if action != "filtered" or report.get(action)),
        splits=tuple(report["splits"].items()),
    )


def leakage_rows(report: Mapping[str, Any]) -> list[tuple[str, int]]:
    """(set and kind, rows that training has seen) for every set of the leakage table."""
    sets = (report.get("leakage") or {}).get("sets", {})
    kinds = ("exact", "near", "overlap", "groups")
    return [(f"{name}: {kind}", found[kind]["rows"]) for name, found in sets.items() for kind in kinds]


def code_rows(report: Mapping[str, Any]) -> list[CodeRow]:
    """One row a code and action; the worst action first, then by count."""
    rows = [
        _code_row(code, action, found["count"], found.get("example") or {})
        for code, entry in report["by_code"].items()
        for action, found in (entry.get("by_action") or {entry["action"]: entry}).items()
    ]
    return sorted(rows, key=lambda row: (-_rank(row.action), -row.count, row.code))


def _code_row(code: str, action: str, count: int, example: Mapping[str, Any]) -> CodeRow:
    return CodeRow(
        code=code,
        action=action,
        count=count,
        place=f"{example.get('source', '')}:{example.get('line', '')}".strip(":"),
        reason=readable(example.get("reason", ""), EXCERPT),
        excerpt=readable(example.get("excerpt", ""), EXCERPT),
    )


def _rank(action: str) -> int:
    return ACTIONS.index(action) if action in ACTIONS else -1


@dataclass(frozen=True)
class TokenTable:
    """columns: the splits; rows: what was counted, and the count in each; plain: facts that hold for all."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    plain: tuple[tuple[str, str], ...]


def token_table(tokens: Mapping[str, Any]) -> TokenTable:
    """From the `tokens` of report.json: `splits` by name, beside facts such as max_length. The histogram is drawn on
    the data stage's own page."""
    splits = {name: _flat(split) for name, split in tokens.get("splits", {}).items()}
    names = dict.fromkeys(name for split in splits.values() for name in split)
    rows = tuple((name, tuple(cell(split.get(name)) for split in splits.values())) for name in names)
    plain = tuple((_words(key), cell(value)) for key, value in tokens.items() if not isinstance(value, Mapping))
    return TokenTable(tuple(splits), rows, plain)


def _flat(split: Mapping[str, Any]) -> dict[str, Any]:
    """{"rows": 1, "breaches": {"bos": 0}} -> {"rows": 1, "breaches: bos": 0}."""
    flat: dict[str, Any] = {}
    for key, value in split.items():
        if isinstance(value, Mapping):
            flat |= {f"{_words(key)}: {_words(inner)}": number for inner, number in value.items()}
        else:
            flat[_words(key)] = value
    return flat


def _words(name: str) -> str:
    return name.replace("_", " ")


def cell(value: Any) -> str:
    """A value as it stands in a table; '–' where there is none."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.3f}".rstrip("0").rstrip(".")
    if isinstance(value, list | tuple):
        return readable(", ".join(cell(item) for item in value) or "none", EXCERPT)
    return readable(value, EXCERPT)
