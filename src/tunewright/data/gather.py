"""Reading all sources once: quarantined rows to their file, usable ones to a spool, only their numbers in memory."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import IO, Any

from tunewright.core.events import Progress
from tunewright.data.account import Account
from tunewright.data.collection import seldom_collected
from tunewright.data.disk_meter import DiskMeter
from tunewright.data.draft import Masked
from tunewright.data.duplicates.exact import Seen
from tunewright.data.findings import Action, Finding, Note, Place, locate
from tunewright.data.prepare import Outcome
from tunewright.data.reading.record import Record
from tunewright.data.reading.records import read_records
from tunewright.data.sources import Pool, Source
from tunewright.data.splits.assign import Member
from tunewright.data.spool import Spool
from tunewright.data.tokens.columns import TokenColumns
from tunewright.data.workers import Prepared

QUARANTINE = "quarantine.jsonl"
MAPPING = "pii_mapping.jsonl"


@dataclass
class Gathered:
    """Usable rows in reading order, in parallel columns; their text is in the spool. metadata_keys: seen in any row."""

    spool: Spool
    account: Account = field(default_factory=Account)
    ids: list[str] = field(default_factory=list)
    pools: list[Pool] = field(default_factory=list)
    members: list[Member] = field(default_factory=list)
    tokens: TokenColumns = field(default_factory=TokenColumns)
    actions: list[Action] = field(default_factory=list)
    sources: array[int] = field(default_factory=lambda: array("l"))
    lines: array[int] = field(default_factory=lambda: array("q"))
    byte_offsets: array[int] = field(default_factory=lambda: array("q"))
    metadata_keys: set[str] = field(default_factory=set)
    masked: list[tuple[str, Masked]] = field(default_factory=list)

    def add(self, prepared: Prepared, outcome: Outcome, pool: Pool) -> None:
        """Keeps what later steps need of a usable row. outcome: of all that is known of it by now."""
        usable = outcome.usable
        assert usable is not None
        self.spool.append(usable.line)
        self.ids.append(prepared.id)
        self.pools.append(pool)
        self.members.append(usable.member)
        assert outcome.action in ("kept", "repaired")
        self.actions.append(outcome.action)
        self.sources.append(self.account.open_source)
        self.lines.append(prepared.place.line)
        self.byte_offsets.append(prepared.place.byte_offset)
        self.metadata_keys.update(usable.metadata_keys)
        self.masked += [(prepared.id, masked) for masked in outcome.masked]
        if usable.tokens:
            self.tokens.append(usable.tokens)

    def only(self, rows: Sequence[int]) -> Gathered:
        """The same books with only these rows, in this order."""
        return replace(
            self,
            spool=self.spool.only(rows),
            ids=[self.ids[row] for row in rows],
            pools=[self.pools[row] for row in rows],
            members=[self.members[row] for row in rows],
            tokens=self.tokens.only(rows) if self.tokens else self.tokens,
            actions=[self.actions[row] for row in rows],
            sources=array("l", (self.sources[row] for row in rows)),
            lines=array("q", (self.lines[row] for row in rows)),
            byte_offsets=array("q", (self.byte_offsets[row] for row in rows)),
        )

    def place(self, row: int) -> Place:
        """Where usable row `row` stands in its source."""
        return Place(self.account.name(self.sources[row]), self.lines[row], self.byte_offsets[row])

    def finding(self, row: int, note: Note) -> Finding:
        """What is found of usable row `row` after all rows were read."""
        (found,) = locate(self.place(row), [note])
        return found

    def rows_of(self, pool: Pool) -> list[int]:
        """The usable rows that came from the sources of `pool`."""
        return [row for row, name in enumerate(self.pools) if name == pool]


@seldom_collected()
def gather(
    sources: Sequence[Source],
    reading: Iterator[Prepared],
    *,
    spool: Spool,
    quarantine: IO[Any],
    meter: DiskMeter | None = None,
) -> Gathered:
    """Goes through the rows of all sources; writes those that cannot be used to `quarantine`, the others to `spool`.

    reading: the prepared rows of `sources`, in order (`records_of`, `workers.prepare_all`); meter: the one that
    `records_of` got, for the progress of archives.

    Exact duplicates are looked for among the sources of one pool, and taken out of the shared one only: a split that
    is given as a file stays as it is, since published test sets hold repeats. Raises ArtifactError for a source
    without a row.
    """
    gathered, seen = Gathered(spool), Seen()
    total = sum(source.bytes for source in sources)
    with Progress("reading (bytes)", total) as progress:
        for source, prepared in _each(sources, reading, gathered.account):
            progress.advance(meter.since(source) if meter and source.is_packed else prepared.size)
            outcome = seen.settle(prepared.id, prepared.place, prepared.outcome, pool=source.pool)
            gathered.account.add(outcome)
            if outcome.usable:
                gathered.add(prepared, outcome, source.pool)
            elif outcome.action == "quarantined":
                write_line(quarantine, quarantine_row(prepared.id, prepared.raw, outcome.findings))
    return gathered


def _each(
    sources: Sequence[Source], reading: Iterator[Prepared], account: Account
) -> Iterator[tuple[Source, Prepared]]:
    """Every row with its source. Sources come in order, so the account is opened when a source's first row arrives."""
    at = -1
    for prepared in reading:
        while at < 0 or sources[at].name != prepared.place.source:
            at = _open_next(sources, at, account)
        yield sources[at], prepared
    while at < len(sources) - 1:
        at = _open_next(sources, at, account)
    account.refuse_empty(sources[-1].path)


def _open_next(sources: Sequence[Source], at: int, account: Account) -> int:
    if at >= 0:
        account.refuse_empty(sources[at].path)
    source = sources[at + 1]
    account.open(source.name, encoding=source.layout.encoding, shape=source.layout.shape)
    return at + 1


def records_of(sources: Sequence[Source], max_chars: int, meter: DiskMeter | None = None) -> Iterator[Record]:
    """Every row of every source, not parsed yet. meter: told of every stream that is opened."""
    for source in sources:
        opened = partial(meter.opened, source.name) if meter else None
        yield from read_records(
            source.path, source=source.name, layout=source.layout, max_chars=max_chars, opened=opened
        )


def quarantine_row(row_id: str, raw: str | None, findings: Sequence[Finding]) -> dict[str, Any]:
    """A line of quarantine.jsonl: the reason, and the row's own text (null where it has none) to mend and feed in."""
    worst = next(finding for finding in findings if finding.action == "quarantined")
    return {
        "id": row_id,
        "source": worst.source,
        "line": worst.line,
        "byte_offset": worst.byte_offset,
        "code": worst.code,
        "reason": worst.reason,
        "excerpt": worst.excerpt,
        "other_codes": sorted(finding.code for finding in findings if finding is not worst),
        "raw": None if worst.code == "ERASED" else raw,
    }


def write_line(handle: IO[Any], value: dict[str, Any]) -> None:
    """One JSON document and a line feed."""
    handle.write(json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n")
