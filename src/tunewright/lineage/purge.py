"""`data purge`: a new data artifact without a row, the row on the erasure list, and what is left to do by hand."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.core import files, named
from tunewright.core.erasures import Erasures
from tunewright.core.runs import Artifact, Output, Workspace, begin, prunable
from tunewright.lineage.find import PURGED, FindResult, Holder, cleaned, find
from tunewright.lineage.query import Kind, Query
from tunewright.lineage.rows import SourceFile
from tunewright.lineage.search import jsonl_files

SPLITS = ("train", "validation", "test")
REPORT = "report.json"
_SHOWN = 20


@dataclass(frozen=True)
class PurgeResult:
    """found: before the purge; artifact: the new data artifact, '' where none was made; removed: lines taken out, by
    file; left_behind: files that the new artifact does not have; erased: new digests on the list; prune_now: what
    `runs prune --keep 1` takes away already; prune_later: what it takes after `tunewright run`.
    """

    found: FindResult
    dry_run: bool
    artifact: str
    made_from: str
    removed: Mapping[str, int]
    left_behind: tuple[str, ...]
    erased: int
    erasure_list: str
    prune_now: tuple[str, ...]
    prune_later: tuple[str, ...]
    project_file: str
    problem: str = ""

    @property
    def retrain(self) -> list[Holder]:
        """Artifacts of later stages that derive from the row, finished ones."""
        return [h for h in self.found.artifacts if h.stage != "data" and h.derives and h.state != "unfinished"]

    def dump(self) -> dict[str, Any]:
        """For --json. Ids, places and counts; never a text of a row."""
        return {
            "dry_run": self.dry_run,
            "found": self.found.dump(),
            "artifact": self.artifact,
            "made_from": self.made_from,
            "removed": dict(self.removed),
            "left_behind": list(self.left_behind),
            "erased": self.erased,
            "erasure_list": self.erasure_list,
            "retrain": [holder.path for holder in self.retrain],
            "sources": [{"file": hit.place, "line": hit.line, "id": hit.id} for hit in self.found.sources],
            "prune_now": list(self.prune_now),
            "prune_later": list(self.prune_later),
            "problem": self.problem,
            "commands": self.commands,
        }

    @property
    def commands(self) -> list[str]:
        """What to type next, in this order."""
        if self.found.is_empty:
            return []
        prune = f"tunewright runs prune {self.project_file} --keep 1"
        train = [f"tunewright run {self.project_file}"] if self.retrain or self.problem else []
        stale = [prune] if self.prune_now or self.prune_later else []
        caches = [f"rm {path}" for path in self.found.caches]
        return [*train, *stale, *caches]

    def text(self) -> str:
        """For the screen."""
        if self.found.is_empty:
            return self.found.text()
        lines = [*self._done(), *self._open_points()]
        return "\n".join([*lines, *(f"note: {note}" for note in self.found.notes)])

    def _done(self) -> list[str]:
        would = "would be " if self.dry_run else ""
        parts = ", ".join(f"{count} of {name}" for name, count in self.removed.items())
        lines = []
        if self.removed:
            target = self.artifact or "a new data artifact"
            lines.append(
                f"{target}: {self.made_from} without {parts}{' (not written: dry run)' if self.dry_run else ''}"
            )
        if self.left_behind:
            lines.append(f"  not carried over: {', '.join(self.left_behind)}")
        if self.problem:
            lines.append(f"no new data artifact: {self.problem}")
        lines.append(
            f"{self.erasure_list}: {self.erased} digest(s) {would}added; `tunewright data` leaves such rows out"
        )
        return lines

    def _open_points(self) -> list[str]:
        lines = []
        for hit in self.found.sources[:_SHOWN]:
            lines.append(f"still in your file {hit.place}, line {hit.line}: delete it there, sources are never edited")
        if len(self.found.sources) > _SHOWN:
            lines.append(f"and in {len(self.found.sources) - _SHOWN} more places of your files (--json lists all)")
        lines += [f"train again: {holder.path} ({holder.derives})" for holder in self.retrain]
        lines += [f"still holds it: {path} (pruned now)" for path in self.prune_now]
        lines += [
            f"still holds it: {path} (pruned once the stages after it were run again)" for path in self.prune_later
        ]
        lines += [
            f"still in the rating store {path}: delete it once its votes are not needed any more"
            for path in self.found.ratings
        ]
        if self.commands:
            lines += ["next:", *(f"  {command}" for command in self.commands)]
        return lines


def purge(
    workspace: Workspace,
    sources: Sequence[SourceFile],
    word: str,
    *,
    kind: Kind = "auto",
    dry_run: bool = False,
    project_file: str = "PROJECT.yaml",
) -> PurgeResult:
    """Puts the rows that `find` finds on the erasure list and seals the newest data artifact without them.

    The list is written first: when the work is cut short the row is not used again, and the half-written artifact is
    unfinished. Sources are never edited and old artifacts never deleted. Raises what `find` raises, and ArtifactError
    where the newest data artifact or the erasure list is damaged.
    """
    found = find(workspace, sources, word, kind=kind)
    listed = Erasures.load(workspace)
    ids = [hit.id for holder in found.artifacts if holder.stage == "data" for hit in holder.hits]
    longer = listed.added(found.targets.digests, ids=[*ids, *(hit.id for hit in found.sources)])
    base = _newest(workspace)
    dropped = _lines_to_drop(found, workspace.relative(base.path)) if base else {}
    problem = _problem(base, dropped) if base else ""
    if not dry_run and longer is not listed:
        longer.save()
    artifact = None
    if base and dropped and not problem and not dry_run:
        artifact = _write(workspace, base, dropped, found=found, query=Query(word, kind), listed=longer)
    now, later = _prunable(workspace, found)
    return PurgeResult(
        found=found,
        dry_run=dry_run,
        artifact=workspace.relative(artifact.path) if artifact else "",
        made_from=workspace.relative(base.path) if base else "",
        removed={} if problem else {name: len(lines) for name, lines in dropped.items()},
        left_behind=tuple(_left_behind(base)) if base and dropped and not problem else (),
        erased=len(longer.digests) - len(listed.digests),
        erasure_list=workspace.relative(longer.path),
        prune_now=now,
        prune_later=later,
        project_file=project_file,
        problem=problem,
    )


def _newest(workspace: Workspace) -> Artifact | None:
    """The data artifact that training would take, else the newest finished one."""
    finished = workspace.finished("data")
    passed = [artifact for artifact in finished if artifact.manifest.passed]
    candidates = passed or finished
    return candidates[-1] if candidates else None


def _lines_to_drop(found: FindResult, artifact: str) -> dict[str, frozenset[int]]:
    """{file: numbers of its lines} of the artifact."""
    holder = next((holder for holder in found.artifacts if holder.path == artifact), None)
    lines: dict[str, set[int]] = {}
    for hit in holder.hits if holder else ():
        lines.setdefault(hit.place, set()).add(hit.line)
    return {name: frozenset(numbers) for name, numbers in sorted(lines.items())}


def _problem(base: Artifact, dropped: Mapping[str, frozenset[int]]) -> str:
    for split in SPLITS:
        name = f"{split}.jsonl"
        if name in dropped and len(dropped[name]) >= _count(base.file(name)):
            return f"its {split} split would be empty; `tunewright data` divides what is left anew"
    return ""


def _count(path: Path) -> int:
    with path.open("rb") as handle:
        return sum(1 for _ in handle)


def _left_behind(base: Artifact) -> list[str]:
    """Files that are neither rows nor the report: pages with samples, and what is made of rows again."""
    carried = {path.name for path in jsonl_files(base.path)} | {REPORT, "plan.json", "config.yaml", "events.jsonl"}
    return [record.path for record in base.manifest.files if record.path not in carried]


def _write(
    workspace: Workspace,
    base: Artifact,
    dropped: Mapping[str, frozenset[int]],
    *,
    found: FindResult,
    query: Query,
    listed: Erasures,
) -> Artifact:
    """The new artifact. Its settings say that it is a purge, so that `tunewright data` never takes it for its own
    work; its inputs are the sources', not the old artifact, so that the old one can be pruned."""
    settings = {**base.manifest.config, "erased": listed.sha256, "purged_from": base.manifest_sha256}
    output = begin(workspace, "data", settings, base.manifest.inputs)
    if isinstance(output, Artifact):
        return output
    try:
        for path in jsonl_files(base.path):
            _copy_without(base.file(path.name), output.path / path.name, dropped.get(path.name, frozenset()))
        counts = Counter({name.removesuffix(".jsonl"): len(lines) for name, lines in dropped.items()})
        holder = next(h for h in found.artifacts if h.path == workspace.relative(base.path))
        about = {
            "from": holder.path,
            "from_manifest_sha256": base.manifest_sha256,
            "rows": dict(counts),
            "ids": sorted({hit.id for hit in holder.hits if hit.id}),
            "digests": sorted(digest.hex() for digest in found.targets.digests),
        }
        _write_report(base, output, counts, about=about, found=found, query=query)
        output.events.write("purged", rows=dict(counts), made_from=holder.path)
        return output.seal(passed=base.manifest.passed)
    finally:
        output.release()


def _copy_without(source: Path, target: Path, lines: frozenset[int]) -> None:
    """The file without these lines, byte for byte, and with the same permissions before anything is in it."""
    with source.open("rb") as rows, files.atomic_write(target, "wb") as handle:
        os.fchmod(handle.fileno(), source.stat().st_mode & 0o777)
        handle.writelines(row for number, row in enumerate(rows, start=1) if number not in lines)


def _write_report(
    base: Artifact,
    output: Output,
    counts: Counter[str],
    *,
    about: dict[str, Any],
    found: FindResult,
    query: Query,
) -> None:
    """The old report without the rows' words. What was read stays as it was counted; the splits are those of now, and
    `purged` has the difference."""
    ids = {*about["ids"], *(hit.id for hit in found.sources)}
    asked = query if found.matched_by == "text" else None

    def clean(value: Any) -> Any:
        return cleaned(value, ids, asked, found.targets)

    report = clean(base.json(REPORT))
    for name in ("splits", "samples"):
        report |= {name: _less(report[name], counts)} if name in report else {}
    files.write_json(output.path / REPORT, {**report, PURGED: about})
    facts = clean(base.manifest.facts)
    facts |= {"splits": _less(facts["splits"], counts)} if "splits" in facts else {}
    output.facts |= {**facts, PURGED: about}


def _less(sizes: Mapping[str, int], counts: Counter[str]) -> dict[str, int]:
    return {name: size - counts[name] for name, size in sizes.items()}


def _prunable(workspace: Workspace, found: FindResult) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(what `prune --keep 1` removes now, what it removes once every stage was run again) of what holds the row."""
    going = {workspace.relative(path) for path in prunable(workspace, 1, named.in_use(workspace))}
    holding = [holder.path for holder in found.artifacts]
    return tuple(p for p in holding if p in going), tuple(p for p in holding if p not in going)
