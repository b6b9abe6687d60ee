"""Counting: every row once, by source and by code, so that kept + repaired + quarantined + filtered = read."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from tunewright.data.findings import RANK, Action, Finding
from tunewright.data.prepare import Outcome

DUPLICATES = frozenset({"DUPLICATE", "NEAR_DUPLICATE"})
"""Quarantined, but no sign of bad data: they do not count against max_quarantined."""
ACTIONS = ("kept", "repaired", "quarantined", "filtered")


@dataclass
class _Code:
    """Rows with one code, by action, with the first example of each."""

    counts: Counter[Action] = field(default_factory=Counter)
    examples: dict[Action, Finding] = field(default_factory=dict)

    def dump(self) -> dict[str, Any]:
        actions = sorted(self.counts, key=RANK.__getitem__, reverse=True)
        entries = {action: {"count": self.counts[action], "example": self._example(action)} for action in actions}
        count = sum(self.counts.values())
        return {"action": actions[0], "count": count, "example": self._example(actions[0]), "by_action": entries}

    def _example(self, action: Action) -> dict[str, Any]:
        return {name: value for name, value in asdict(self.examples[action]).items() if name not in ("action", "code")}


@dataclass
class _Source:
    path: str
    encoding: str
    format: str
    counts: Counter[str] = field(default_factory=Counter)

    def dump(self) -> dict[str, Any]:
        counts = {action: self.counts[action] for action in ACTIONS}
        return {"path": self.path, "encoding": self.encoding, "format": self.format, "read": self.read, **counts}

    @property
    def read(self) -> int:
        return sum(self.counts.values())


class Account:
    """The books of a run."""

    def __init__(self) -> None:
        self._sources: list[_Source] = []
        self._codes: dict[str, _Code] = {}
        self._duplicates = 0

    def open(self, path: str, *, encoding: str, shape: str) -> None:
        """The rows added from now on come from `path`."""
        self._sources.append(_Source(path, encoding, shape))

    def add(self, outcome: Outcome) -> None:
        """Counts one row."""
        self._sources[-1].counts[outcome.action] += 1
        for finding in outcome.findings:
            code = self._codes.setdefault(finding.code, _Code())
            code.counts[finding.action] += 1
            code.examples.setdefault(finding.action, finding)
        self._duplicates += any(f.code in DUPLICATES and f.action == "quarantined" for f in outcome.findings)

    @property
    def read_from_last(self) -> int:
        """Rows of the source that is open."""
        return self._sources[-1].read

    def total(self, action: str) -> int:
        """Rows with this action over all sources."""
        return sum(source.counts[action] for source in self._sources)

    @property
    def read(self) -> int:
        """Rows of all sources."""
        return sum(source.read for source in self._sources)

    def dump(self) -> dict[str, Any]:
        """The counting part of report.json. count: rows with the code; example: the first of the worst action;
        by_action has them apart.

        quarantined_share: of the rows read, duplicates apart; what max_quarantined limits.
        """
        bad = self.total("quarantined") - self._duplicates
        return {
            "read": self.read,
            **{action: self.total(action) for action in ACTIONS},
            "duplicates": self._duplicates,
            "quarantined_share": round(bad / self.read, 6) if self.read else 0.0,
            "by_code": {code: self._codes[code].dump() for code in sorted(self._codes)},
            "sources": [source.dump() for source in self._sources],
        }
