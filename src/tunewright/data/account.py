"""Counting: every row once, by source and by code, so that kept + repaired + quarantined + filtered = read."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tunewright.core.errors import ArtifactError
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
    shape: str
    formats: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)

    def dump(self) -> dict[str, Any]:
        counts = {action: self.counts[action] for action in ACTIONS}
        formats = [name for name, _ in sorted(self.formats.items(), key=lambda item: (-item[1], item[0]))]
        return {
            "path": self.path,
            "encoding": self.encoding,
            "format": self.shape,
            "row_formats": formats,
            "read": self.read,
            **counts,
        }

    @property
    def read(self) -> int:
        return sum(self.counts.values())


class Account:
    """The books of a run."""

    def __init__(self) -> None:
        self._sources: list[_Source] = []
        self._codes: dict[str, _Code] = {}
        self._duplicates = self._erased = 0
        self.tallies: Counter[str] = Counter()

    def open(self, path: str, *, encoding: str, shape: str) -> None:
        """The rows added from now on come from `path`."""
        self._sources.append(_Source(path, encoding, shape))

    def add(self, outcome: Outcome) -> None:
        """Counts one row."""
        source = self._sources[-1]
        source.counts[outcome.action] += 1
        if outcome.format:
            source.formats[outcome.format] += 1
        for finding in outcome.findings:
            self.note(finding)
        self.tallies.update(outcome.tallies)
        self._duplicates += any(f.code in DUPLICATES and f.action == "quarantined" for f in outcome.findings)
        self._erased += any(f.code == "ERASED" for f in outcome.findings)

    def take_out(self, source: int, action: Action, finding: Finding) -> None:
        """A duplicate that was counted as `action` in `source` before is quarantined by `finding`."""
        counts = self._sources[source].counts
        counts[action] -= 1
        counts["quarantined"] += 1
        self._duplicates += 1
        self.note(finding)

    def note(self, finding: Finding) -> None:
        """A finding on a row; alone it is one on a row that was counted before and stays as it was."""
        code = self._codes.setdefault(finding.code, _Code())
        code.counts[finding.action] += 1
        code.examples.setdefault(finding.action, finding)

    @property
    def open_source(self) -> int:
        """Number of the source that is open."""
        return len(self._sources) - 1

    def name(self, source: int) -> str:
        """The source's name in the project file."""
        return self._sources[source].path

    def refuse_empty(self, path: Path) -> None:
        """Raises ArtifactError when the source that is open, `path` on disk, had no row."""
        if not self._sources[-1].read:
            raise ArtifactError("the data source has no rows", where=str(path), fix="check the file")

    def total(self, action: str) -> int:
        """Rows with this action over all sources."""
        return sum(source.counts[action] for source in self._sources)

    @property
    def read(self) -> int:
        """Rows of all sources."""
        return sum(source.read for source in self._sources)

    @property
    def quarantined_share(self) -> float:
        """Of the rows read, duplicates and erased rows apart; what max_quarantined limits."""
        bad = self.total("quarantined") - self._duplicates - self._erased
        return round(bad / self.read, 6) if self.read else 0.0

    def dump(self) -> dict[str, Any]:
        """The counting part of report.json. count: rows with the code; example: the first of the worst action;
        by_action has them apart."""
        return {
            "read": self.read,
            **{action: self.total(action) for action in ACTIONS},
            "duplicates": self._duplicates,
            "erased": self._erased,
            "quarantined_share": self.quarantined_share,
            "by_code": {code: self._codes[code].dump() for code in sorted(self._codes)},
            "tallies": dict(sorted(self.tallies.items())),
            "sources": [source.dump() for source in self._sources],
        }
