"""`promote`: moves the pointer to an artifact that passed everything, and back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunewright.core import files, manifest, promoted
from tunewright.core.errors import ArtifactError, ConfigError, GateError
from tunewright.core.manifest import now
from tunewright.core.promoted import Current
from tunewright.core.runs import Artifact, Workspace
from tunewright.release import history
from tunewright.release.history import Entry

if TYPE_CHECKING:
    from tunewright.project import ProjectConfig
    from tunewright.release.candidate import Candidate
    from tunewright.release.checks import Findings

LONGEST_NAME, LONGEST_REASON = 100, 1000
NOTES = "LICENSE-NOTES.md"


@dataclass(frozen=True)
class Signed:
    """Who does it and why, as they say themselves: nothing is read from the machine."""

    by: str
    why: str


def signed(by: str | None, why: str | None, *, verb: str) -> Signed:
    """Raises ConfigError when a name or a reason is missing or is no plain line."""
    for option, value, longest in (("--by", by, LONGEST_NAME), ("--why", why, LONGEST_REASON)):
        text = (value or "").strip()
        if not text:
            raise ConfigError(
                f"`{verb}` needs {option}: the history says who did it and why",
                fix=f'tunewright {verb} --by "Zhang Wei" --why "beats the base on the new test set"',
            )
        if len(text) > longest or any(ord(letter) < 32 or letter == "\x7f" for letter in text):
            raise ConfigError(f"{option} must be one line of at most {longest} characters")
    return Signed((by or "").strip(), (why or "").strip())


@dataclass(frozen=True)
class Outcome:
    """entry: what the history now ends with, None where the artifact was the promoted one already; current: the
    pointer, None before the first promotion; missing: approvals that are still needed."""

    entry: Entry | None
    current: Current | None
    missing: int
    text: str


def promote(
    workspace: Workspace, project: ProjectConfig, candidate: Candidate, found: Findings, who: Signed
) -> Outcome:
    """Writes the approval or the promotion of a candidate whose findings have no failure. Raises ConfigError when the
    same person approves twice, GateError when the history was changed, ResourceError when another process is at it."""
    assert not found.failures and found.evaluation is not None, "checks.require comes first"
    with history.locked(workspace):
        _require_chain(workspace)
        entries, current = history.read(workspace), promoted.read(workspace)
        draft = _values(workspace, project, candidate, found, who)
        place = workspace.relative(candidate.artifact.path)
        if current and _is_current(current, candidate):
            text = f"{place} ({candidate.variant}) is the promoted model already, since {current.since:%Y-%m-%d %H:%M}"
            return Outcome(None, current, 0, text)
        approved = _approved(entries, history.sealed({**draft, "kind": "approve"}, entries), who)
        missing = project.release.approvals - len(approved)
        if missing > 0:
            entry = history.sealed({**draft, "kind": "approve", "approved_by": approved}, entries)
            history.append(workspace, entries, entry)
            return Outcome(entry, current, missing, _waiting(place, approved, missing))
        entry = history.sealed({**draft, "kind": "promote", "approved_by": approved}, entries)
        before = history.stack(entries)
        moved = history.move(workspace, entries, entry, before[-1] if before else None)
    return Outcome(entry, moved, 0, f"promoted {place} ({candidate.variant}), by {', '.join(approved)}\n{_keep(entry)}")


def _is_current(current: Current, candidate: Candidate) -> bool:
    return (current.manifest_sha256, current.variant) == (candidate.artifact.manifest_sha256, candidate.variant)


def _approved(entries: list[Entry], draft: Entry, who: Signed) -> tuple[str, ...]:
    """Everyone who has approved this very artifact and evaluation since the pointer moved last, `who` at the end."""
    names = [entry.by for entry in history.open_approvals(entries) if entry.is_of(draft)]
    if who.by.casefold() in {name.casefold() for name in names}:
        raise ConfigError(
            f"{who.by} has approved this artifact already; another person must", fix="a second --by, a second person"
        )
    return (*names, who.by)


def _waiting(place: str, approved: tuple[str, ...], missing: int) -> str:
    return (
        f"{place} passed everything and is approved by {', '.join(approved)}; "
        f"{missing} more approval{'s' if missing > 1 else ''} by other people before the pointer moves"
    )


def _keep(entry: Entry) -> str:
    return f"history: entry {entry.number}, {entry.hash} (keep this hash elsewhere to prove the history later)"


def _values(
    workspace: Workspace, project: ProjectConfig, candidate: Candidate, found: Findings, who: Signed
) -> dict[str, Any]:
    assert found.evaluation is not None
    scores = found.evaluation.json("scores.json")["tuned"]
    keys = dict.fromkeys([project.evaluate.primary, *(gate.metric for gate in project.evaluate.gates)])
    numbers = ("value", "low", "high", "n")
    return {
        "when": now(),
        "by": who.by,
        "why": who.why,
        "artifact": workspace.relative(candidate.artifact.path),
        "variant": candidate.variant,
        "manifest_sha256": candidate.artifact.manifest_sha256,
        "evaluation": workspace.relative(found.evaluation.path),
        "evaluation_sha256": found.evaluation.manifest_sha256,
        "scores": {key: {name: scores[key][name] for name in numbers} for key in keys if key in scores},
        "gates": tuple(found.sentences),
    }


def _require_chain(workspace: Workspace) -> None:
    if found := history.faults(workspace):
        raise GateError(
            "\n".join(["the history of promotions was changed", *(f"  {fault}" for fault in found)]),
            where=str(history.place(workspace)),
            fix="restore history.jsonl and the pointer from a copy",
        )


def rollback(workspace: Workspace, who: Signed) -> Outcome:
    """Moves the pointer to the model that was promoted before, in well under a second: sizes and the manifest's hash
    are checked, the weights are hashed by whoever opens them. One person suffices, whatever `approvals` says.

    Raises ArtifactError when there is none, or it is gone or changed.
    """
    with history.locked(workspace):
        _require_chain(workspace)
        entries = history.read(workspace)
        models = history.stack(entries)
        if len(models) < 2:
            raise ArtifactError(
                "there is no earlier promoted model to go back to",
                where=str(history.place(workspace)),
                fix="`tunewright promote --history` lists what was promoted",
            )
        target = models[-2]
        _unchanged(workspace, target)
        kept = target.model_dump(exclude={"number", "previous", "hash"})
        values = {**kept, "kind": "rollback", "when": now(), "by": who.by, "why": who.why, "approved_by": (who.by,)}
        entry = history.sealed(values, entries)
        moved = history.move(workspace, entries, entry, models[-3] if len(models) > 2 else None)
    left = f"{models[-1].artifact} ({models[-1].variant})"
    return Outcome(entry, moved, 0, f"back to {target.artifact} ({target.variant}) from {left}\n{_keep(entry)}")


def _unchanged(workspace: Workspace, target: Entry) -> None:
    place = (workspace.root / target.artifact).resolve()
    artifact = Artifact.open(place)
    if files.sha256(place / manifest.NAME) != target.manifest_sha256:
        raise ArtifactError("the earlier model's manifest is another one than was promoted", where=target.artifact)
    for record in artifact.manifest.files:
        path = place / record.path
        if not path.exists() or path.stat().st_size != record.bytes:
            raise ArtifactError(
                f"the earlier model's file {record.path} is missing or has another size",
                where=target.artifact,
                fix="restore it from a copy, or promote another artifact",
            )


def verify(workspace: Workspace) -> list[str]:
    """Faults of the history, the pointer, and every file of the promoted artifact."""
    found = history.faults(workspace)
    current = promoted.read(workspace) if not found else None
    if current is None:
        return found
    from tunewright.release.integrity import changed_files

    try:
        changed = changed_files(promoted.opened(workspace, current))
    except ArtifactError as error:
        return [f"{current.artifact}: {error.problem}"]
    return [f"{current.artifact}: {changed}"] if changed else []


def listing(entries: list[Entry]) -> str:
    """The history for the screen, newest first."""
    if not entries:
        return "nothing was promoted yet"
    return "\n".join(_line(entry) for entry in reversed(entries))


def _line(entry: Entry) -> str:
    scores = ", ".join(
        f"{key} {score['value']:.4g} [{score['low']:.4g}, {score['high']:.4g}]" for key, score in entry.scores.items()
    )
    return (
        f"{entry.number:>4} {entry.when:%Y-%m-%d %H:%M} {entry.kind:<8} {entry.artifact} ({entry.variant}, "
        f"{entry.manifest_sha256[:12]}) by {', '.join(entry.approved_by) or entry.by}: {entry.why}\n     {scores}"
    )


def write_notes(workspace: Workspace, text: str) -> Path:
    """Puts the licence notes beside the pointer."""
    path = promoted.folder(workspace) / NOTES
    files.write_text(path, text)
    return path
