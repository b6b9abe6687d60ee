"""`data check`: the findings of files without a project, nothing written."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunewright.core.errors import ConfigError, TunewrightError
from tunewright.data.account import Account
from tunewright.data.duplicates.exact import Seen
from tunewright.data.duplicates.rule import NearDuplicate
from tunewright.data.findings import Finding, Place
from tunewright.data.reading.records import read_records
from tunewright.data.settle import near_options
from tunewright.data.sources import Source, locate_sources
from tunewright.data.spool import Spool, Texts
from tunewright.data.tokens.check import TokenCheck
from tunewright.data.workers import Recipe, how_many, prepare_all

UNREADABLE = "UNREADABLE"
_COUNTED = ("read", "kept", "repaired", "quarantined")


@dataclass
class FileCheck:
    """What was found in one file. error: why it cannot be read, which is its only finding then."""

    path: str
    format: str = ""
    encoding: str = ""
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("read", "kept", "repaired", "quarantined"), 0)
    )
    findings: list[Finding] = field(default_factory=list)
    error: str = ""

    def dump(self) -> dict[str, Any]:
        """The file's entry in the JSON output."""
        found = [
            {
                "line": finding.line,
                "byte_offset": finding.byte_offset,
                "code": finding.code,
                "action": finding.action,
                "reason": finding.reason,
                "excerpt": finding.excerpt,
            }
            for finding in sorted(self.findings, key=lambda finding: (finding.byte_offset, finding.line))
        ]
        if self.error:
            found = [
                {
                    "line": 0,
                    "byte_offset": 0,
                    "code": UNREADABLE,
                    "action": "error",
                    "reason": self.error,
                    "excerpt": "",
                }
            ]
        return {"path": self.path, "format": self.format, "encoding": self.encoding, **self.counts, "findings": found}


@dataclass(frozen=True)
class Checked:
    """All files; share: of rows quarantined, duplicates are not counted since `check` only reports them."""

    files: tuple[FileCheck, ...]

    @property
    def share(self) -> float:
        """Quarantined rows over rows read."""
        read = sum(one.counts["read"] for one in self.files)
        return sum(one.counts["quarantined"] for one in self.files) / read if read else 0.0

    @property
    def unreadable(self) -> bool:
        """Whether a file could not be read at all."""
        return any(one.error for one in self.files)

    def dump(self) -> dict[str, Any]:
        """The JSON output."""
        return {"files": [one.dump() for one in self.files]}

    def text(self) -> str:
        """For the screen: a line of counts a file, then a line a code and action with the first."""
        return "\n".join(line for one in self.files for line in _lines(one))


def _lines(one: FileCheck) -> Iterator[str]:
    if one.error:
        yield f"{one.path}: {one.error}"
        return
    counts = "  ".join(f"{name} {count}" for name, count in one.counts.items())
    yield f"{one.path} ({one.format}, {one.encoding}): {counts}"
    if not one.findings:
        yield "  nothing found"
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in one.findings:
        groups.setdefault((finding.action, finding.code), []).append(finding)
    for (action, code), found in sorted(groups.items(), key=lambda item: (_ORDER[item[0][0]], item[0][1])):
        first = min(found, key=lambda finding: finding.line)
        yield f"  {action:<11} {code:<16} {len(found):>6}  first on line {first.line}: {first.reason}"


_ORDER = {"quarantined": 0, "repaired": 1, "kept": 2}


def check(paths: Sequence[str], recipe: Recipe, *, root: Path, max_chars: int, encoding: str) -> Checked:
    """Reads every file and applies the rules of `recipe`. Duplicates are looked for inside each file.

    A file that cannot be read has an error and does not stop the others. Raises ConfigError when no file is named.
    """
    if not paths:
        raise ConfigError("`data check` needs a file", fix="tunewright data check FILE.jsonl")
    found: list[FileCheck] = []
    proof = recipe.check()
    for path in paths:
        try:
            sources = locate_sources(root, (("shared", (path,)),), max_chars=max_chars, encoding=encoding)
            found += [_check(source, recipe, check=proof, max_chars=max_chars) for source in sources]
        except TunewrightError as error:
            fix = error.fix if (root / path).exists() else "check the path"
            found.append(FileCheck(path, error=f"{error.problem}{f'; {fix}' if fix else ''}"))
    return Checked(tuple(found))


def _check(source: Source, recipe: Recipe, *, check: TokenCheck | None, max_chars: int) -> FileCheck:
    one = FileCheck(source.name, encoding=source.layout.encoding)
    account, seen = Account(), Seen()
    account.open(source.name, encoding=source.layout.encoding, shape=source.layout.shape)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        spool = stack.enter_context(Spool(Path(folder) / "rows"))
        records = read_records(source.path, source=source.name, layout=source.layout, max_chars=max_chars)
        usable: list[tuple[str, Place]] = []
        known: set[str] = set()
        reading = prepare_all(records, recipe, check=check, workers=how_many(None, source.bytes))
        for prepared in reading:
            outcome = seen.settle(prepared.id, prepared.place, prepared.outcome, pool="check")
            account.add(outcome)
            one.findings += outcome.findings
            if outcome.usable:
                usable.append((prepared.id, prepared.place))
                spool.append(outcome.usable.line)
            if any(finding.code == "DUPLICATE" for finding in outcome.findings):
                known.add(prepared.id)
        one.findings += _near(recipe, spool, usable, known=known)
    dump = account.dump()
    one.counts = {name: dump[name] for name in one.counts}
    formats = dump["sources"][0]["row_formats"]
    one.format = formats[0] if formats else source.layout.shape
    return one


def _near(recipe: Recipe, spool: Spool, usable: Sequence[tuple[str, Place]], *, known: set[str]) -> Iterator[Finding]:
    options = near_options(recipe.rules)
    if options is None or not usable:
        return
    ids = [row_id for row_id, _ in usable]
    near = NearDuplicate(options).clusters(Texts(spool, range(len(usable))), seed=0)
    for row in sorted(near.twins):
        row_id, place = usable[row]
        if row_id in known:
            continue
        note = near.rejection(row, ids, spool.conversation(row).reference)
        yield Finding(place.source, place.line, place.byte_offset, note.code, "kept", note.reason, note.excerpt)
