"""`promote`, `adopt` and `export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunewright.cli import Arguments
from tunewright.core import files
from tunewright.core.errors import ConfigError
from tunewright.core.events import say
from tunewright.verbs.opened import Opened, open_project
from tunewright.verbs.printed import print_result

if TYPE_CHECKING:
    from tunewright.release.candidate import Candidate
    from tunewright.release.checks import Findings


def promote(arguments: Arguments) -> int:
    """Moves the pointer, or with a flag goes back, proves or lists."""
    from tunewright.release import history
    from tunewright.release import promote as moving

    opened = open_project(arguments)
    asked = {"--rollback", "--verify", "--history"} & arguments.flags
    if len(asked) > 1:
        raise ConfigError(f"one of {' and '.join(sorted(asked))} at a time")
    if "--verify" in asked:
        return _verify(arguments, opened)
    if "--history" in asked:
        entries = history.read(opened.workspace)
        print_result(arguments, [entry.model_dump(mode="json") for entry in entries], moving.listing(entries))
        return 0
    if "--rollback" in asked:
        done = moving.rollback(opened.workspace, moving.signed(arguments.by, arguments.why, verb="promote --rollback"))
        print_result(arguments, _dumped(done), done.text)
        return 0
    return _promote(arguments, opened)


def _promote(arguments: Arguments, opened: Opened) -> int:
    from tunewright.release import candidate, checks, history
    from tunewright.release import promote as moving

    is_dry = "--dry-run" in arguments.flags
    who = None if is_dry else moving.signed(arguments.by, arguments.why, verb="promote")
    if not is_dry:
        history.settle(opened.workspace)
    chosen = candidate.find(opened.workspace, arguments.from_directory)
    place = opened.workspace.relative(chosen.artifact.path)
    say(f"promote: {place} ({chosen.variant})")
    found = checks.examine(opened.workspace, opened.config, chosen)
    if arguments.junit:
        files.write_text(Path(arguments.junit), _junit(opened, found))
    checks.require(found, where=f"{place} ({chosen.variant})")
    if who is None:
        text = f"{place} ({chosen.variant}) may be promoted: {len(found.passed)} checks passed\n"
        print_result(arguments, {"artifact": place, "passed": found.passed}, text + "\n".join(found.sentences))
        return 0
    done = moving.promote(opened.workspace, opened.config, chosen, found, who)
    if done.entry is not None and not done.missing:
        moving.write_notes(opened.workspace, _notes(opened, chosen))
    print_result(arguments, _dumped(done), done.text)
    return 0


def _notes(opened: Opened, chosen: Candidate) -> str:
    from tunewright.models import source
    from tunewright.release import integrity, licence

    base = source.resolve(opened.config.model, opened.workspace.root)
    return licence.notes(integrity.info_of(chosen), base, configured=opened.config.release.license)


def _junit(opened: Opened, found: Findings) -> str:
    """Every check as a case, a failed one for each of its reasons."""
    from tunewright.evaluate.junit import Case, document

    cases = [Case("promote", name) for name in found.passed]
    cases += [Case("promote", name, failure=reason) for name, reason in found.failures]
    return document(f"{opened.config.name} promote", cases)


def _verify(arguments: Arguments, opened: Opened) -> int:
    from tunewright.core import promoted
    from tunewright.release import history
    from tunewright.release.promote import verify

    faults = verify(opened.workspace)
    current = None if faults else promoted.read(opened.workspace)
    entries = [] if faults else history.read(opened.workspace)
    text = "\n".join(faults) if faults else "nothing was promoted yet"
    if current is not None:
        text = (
            f"{len(entries)} entries, each as it was written; newest {entries[-1].hash}\n"
            f"promoted: {current.artifact} ({current.variant}) since {current.since:%Y-%m-%d %H:%M} by {current.by}, "
            "every file as it was sealed"
        )
    print_result(arguments, {"faults": faults, "current": current.model_dump(mode="json") if current else None}, text)
    return 3 if faults else 0


def adopt(arguments: Arguments) -> int:
    """An artifact out of a folder that another tool wrote."""
    from tunewright.release import adopt as adopting

    opened = open_project(arguments)
    named = arguments.names()
    if len(named) != 1:
        raise ConfigError(f"`adopt` takes one folder, not {len(named)}", fix="tunewright adopt out/checkpoint-60")
    if arguments.template not in (None, "adopt"):
        raise ConfigError(f"--template can only be 'adopt', not '{arguments.template}'")
    done = adopting.adopt(
        opened.workspace,
        opened.config,
        Path(named[0]),
        data=opened.override if opened.override and opened.override.manifest.stage == "data" else None,
        take_template=arguments.template == "adopt",
    )
    place = opened.workspace.relative(done.path)
    facts = done.manifest.facts
    text = "\n".join([f"adopted {facts['adopted']['folder']} ({facts['adopted']['tool']}) as {place}", *facts["notes"]])
    print_result(arguments, {"artifact": place, **facts}, text)
    return 0


def export(arguments: Arguments) -> int:
    """A folder for others."""
    from tunewright.release import export as exporting

    opened = open_project(arguments)
    named = arguments.names()
    if len(named) != 1:
        raise ConfigError(f"`export` takes one folder to write, not {len(named)}", fix="tunewright export out/bot-v1")
    written = exporting.export(
        opened.workspace,
        opened.config,
        Path(named[0]),
        variant=arguments.variant,
        source_directory=arguments.from_directory,
    )
    size = files.human_bytes(sum(record["bytes"] for record in written["files"]))
    notes = "".join(f"\n{note}" for note in written["notes"])
    print_result(arguments, written, f"wrote {named[0]}: {written['form']} of {written['artifact']}, {size}{notes}")
    return 0


def _dumped(done: Any) -> dict[str, Any]:
    return {
        "entry": done.entry.model_dump(mode="json") if done.entry else None,
        "current": done.current.model_dump(mode="json") if done.current else None,
        "missing_approvals": done.missing,
    }
