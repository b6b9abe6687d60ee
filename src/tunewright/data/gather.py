"""Reading all sources once: quarantined rows to their file, usable ones to a spool, only their numbers in memory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tunewright.core import files
from tunewright.core.errors import ArtifactError
from tunewright.core.events import Progress
from tunewright.data.account import Account
from tunewright.data.findings import Finding
from tunewright.data.prepare import Preparation, Usable
from tunewright.data.reading.rows import Row, read_rows
from tunewright.data.sources import Pool, Source
from tunewright.data.splits.assign import Member, Split
from tunewright.data.tokens.check import RowTokens

QUARANTINE = "quarantine.jsonl"
SPOOL = ".usable.jsonl"


@dataclass
class Gathered:
    """Usable rows in reading order, in parallel lists; their text is in the spool. metadata_keys: seen in any row."""

    account: Account = field(default_factory=Account)
    ids: list[str] = field(default_factory=list)
    pools: list[Pool] = field(default_factory=list)
    members: list[Member] = field(default_factory=list)
    tokens: list[RowTokens] = field(default_factory=list)
    metadata_keys: set[str] = field(default_factory=set)

    def add(self, usable: Usable, pool: Pool) -> None:
        """Keeps what later steps need of a row."""
        self.ids.append(usable.conversation.id)
        self.pools.append(pool)
        self.members.append(usable.member)
        self.metadata_keys.update(usable.conversation.metadata)
        if usable.tokens:
            self.tokens.append(usable.tokens)


def gather(sources: Sequence[Source], preparation: Preparation, *, folder: Path, max_chars: int) -> Gathered:
    """Reads every source; writes quarantine.jsonl and the spool into `folder`.

    Raises ArtifactError for a source without a row.
    """
    gathered = Gathered()
    total = sum(source.bytes for source in sources)
    with (
        files.atomic_write(folder / QUARANTINE) as quarantine,
        files.atomic_write(folder / SPOOL) as spool,
        Progress("reading (bytes)", total) as progress,
    ):
        for source in sources:
            gathered.account.open(source.name, encoding=source.layout.encoding, shape=source.layout.shape)
            for row in read_rows(source.path, source=source.name, layout=source.layout, max_chars=max_chars):
                outcome = preparation.prepare(row, pool=source.pool)
                gathered.account.add(outcome)
                if outcome.usable:
                    gathered.add(outcome.usable, source.pool)
                    _write(spool, outcome.usable.conversation.to_row())
                elif outcome.action == "quarantined":
                    _write(quarantine, quarantine_row(row, outcome.findings))
                progress.advance(row.size)
            if not gathered.account.read_from_last:
                raise ArtifactError("the data source has no rows", where=str(source.path), fix="check the file")
    return gathered


def quarantine_row(row: Row, findings: Sequence[Finding]) -> dict[str, Any]:
    """A line of quarantine.jsonl: the reason, and the row's own text (null where it has none) to mend and feed in."""
    worst = next(finding for finding in findings if finding.action == "quarantined")
    return {
        "id": row.id,
        "source": worst.source,
        "line": worst.line,
        "byte_offset": worst.byte_offset,
        "code": worst.code,
        "reason": worst.reason,
        "excerpt": worst.excerpt,
        "other_codes": sorted(finding.code for finding in findings if finding is not worst),
        "raw": row.raw,
    }


def _write(handle: IO[Any], value: dict[str, Any]) -> None:
    handle.write(json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n")


def write_splits(folder: Path, splits: Sequence[Split | None]) -> None:
    """Divides the spool into train, validation and test.jsonl and removes it. splits: one a row, None for left out."""
    names: tuple[Split, ...] = ("train", "validation", "test")
    with ExitStack() as stack:
        handles = {name: stack.enter_context(files.atomic_write(folder / f"{name}.jsonl")) for name in names}
        spool = stack.enter_context((folder / SPOOL).open(encoding="utf-8", newline="\n"))
        for line, split in zip(spool, splits, strict=True):
            if split:
                handles[split].write(line)
    (folder / SPOOL).unlink()
