"""`advise`, and `runs compare`: what settings to train with, and what two runs differ in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunewright.cli import Arguments
from tunewright.core.errors import ConfigError
from tunewright.core.events import say
from tunewright.core.runs import Artifact, Workspace
from tunewright.verbs.opened import Opened, open_project
from tunewright.verbs.printed import print_result


def advise(arguments: Arguments) -> int:
    """The advice; with --sweep measured first, with --write as a project file."""
    from tunewright.advise import advice, edit, result

    opened = open_project(arguments)
    data = opened.artifact("data")
    say(f"advise: uses {opened.workspace.relative(data.path)}")
    project = opened.config
    swept = result.read(opened.workspace, data, project.model.path)
    found = advice.advise(project, opened.workspace, data, swept=swept if arguments.sweep is None else None)
    shown = [] if arguments.sweep is not None else [advice.text(found, opened.file.name)]
    if arguments.sweep is not None and "--dry-run" not in arguments.flags:
        swept, page = _sweep(arguments, opened, data, found)
        found = advice.advise(project, opened.workspace, data, swept=swept)
        shown = [result.table(swept), advice.text(found, opened.file.name), f"picture: {page}"]
    elif arguments.sweep is not None:
        shown = [advice.text(found, opened.file.name), _plan(arguments, found)]
    if arguments.write and "--dry-run" not in arguments.flags:
        target = Path(arguments.write)
        kept = edit.write(opened.file, target, project, found.proposal.train, arguments.overrides)
        say(f"advise: wrote {target}" + ("" if kept else "; its comments could not be kept"))
    print_result(arguments, {**found.dump(opened.file.name), "sweep": swept}, "\n\n".join(shown))
    return 0


def _sweep(arguments: Arguments, opened: Opened, data: Artifact, found: Any) -> tuple[dict[str, Any], Path]:
    from tunewright.advise import picture, result, sweep

    assert arguments.sweep is not None
    done = sweep.run(found, opened.workspace, data, count=_count(arguments), minutes=arguments.minutes)
    document = result.document(done, found, data)
    return document, result.write(document, picture.page(document, opened.config.name), opened.workspace)


def _count(arguments: Arguments) -> int:
    if not arguments.sweep or arguments.sweep < 2:
        raise ConfigError("a sweep needs at least 2 settings", fix="--sweep 8")
    if arguments.minutes == 0:
        raise ConfigError("--minutes 0 leaves no time", fix="leave --minutes out, or give at least 1")
    return arguments.sweep


def _plan(arguments: Arguments, found: Any) -> str:
    """The candidates of a sweep, for --dry-run."""
    from tunewright.advise.length import length_of
    from tunewright.advise.sweep import rungs_for
    from tunewright.advise.trials import candidates

    steps = length_of(found.rules.train, found.facts.data).steps
    drawn = candidates(
        found.rules.train, found.project.train, found.facts, count=_count(arguments), seed=found.project.seed
    )
    head = (
        f"would train {len(drawn)} settings at {', '.join(f'{share:.0%}' for share in rungs_for(steps))} of their steps"
    )
    lines = [
        f"  {c.number} ({c.origin}): {c.train.method.name}, rank {getattr(c.train.method, 'rank', '-')}, "
        f"learning rate {c.train.learning_rate:g}, {length_of(c.train, found.facts.data).steps} steps"
        for c in drawn
    ]
    return "\n".join([head, *lines])


def compare_runs(arguments: Arguments, workspace: Workspace) -> int:
    """Two runs side by side."""
    from tunewright.advise import compare

    named = arguments.names()
    if len(named) != 2:
        raise ConfigError(
            "`runs compare` takes two runs", fix="tunewright runs compare PROJECT.yaml 1 2, or two artifacts' folders"
        )
    found = compare.compare(*(compare.find(workspace, name) for name in named), workspace=workspace)
    print_result(arguments, found, compare.text(found))
    return 0
