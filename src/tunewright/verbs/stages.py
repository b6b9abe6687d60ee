"""The stage verbs and `run`."""

from __future__ import annotations

from tunewright import pipeline
from tunewright.cli import Arguments
from tunewright.core.errors import ConfigError
from tunewright.core.events import say
from tunewright.core.runs import Artifact
from tunewright.pipeline import Stages
from tunewright.verbs.opened import Opened, open_project
from tunewright.verbs.printed import print_result


def run(arguments: Arguments) -> int:
    """All stages; the tables and the report's path on stdout."""
    opened = open_project(arguments)
    plan = pipeline.plan(opened.config, opened.workspace)
    if "--dry-run" in arguments.flags:
        print_result(arguments, {"stages": plan.stages, "disk_bytes": plan.disk_bytes}, plan.text())
        return 0
    say(plan.text())
    summary, text = pipeline.run(
        opened.config, opened.workspace, project_file=opened.file.name, keep_going="--keep-going" in arguments.flags
    )
    print_result(arguments, summary, text)
    return 0


def evaluate(arguments: Arguments) -> int:
    """The evaluate stage and its table; with --chain the proof chain and its table."""
    if "--chain" in arguments.flags:
        return _chain(arguments)
    if arguments.server is not None:
        raise ConfigError("--server names the server that --chain asks", fix="add --chain")
    return run_stage(arguments, "evaluate")


def _chain(arguments: Arguments) -> int:
    """Every link asked the same; the table is printed before a broken link ends the verb with GateError."""
    from tunewright.chain import stage, table

    opened = open_project(arguments)
    found = {name: opened.artifact(name) for name in ("data", "train")}
    quantized = opened.workspace.finished("quantize")[-1:]
    if opened.override is not None and opened.override.manifest.stage == "quantize":
        quantized = [opened.override]
    quantize = quantized[0] if quantized else None
    for artifact in [*found.values(), *quantized]:
        say(f"chain: uses {opened.workspace.relative(artifact.path)}")
    if "--dry-run" in arguments.flags:
        names = stage.links(opened.workspace, opened.config, quantize=quantize, **found)
        print_result(arguments, {"links": names}, f"links: {' -> '.join(names)}")
        return 0
    artifact = stage.run(opened.workspace, opened.config, quantize=quantize, server=arguments.server, **found)
    document, place = artifact.json(stage.CHAIN), opened.workspace.relative(artifact.path)
    print_result(arguments, {"artifact": place, **document}, table.table(document))
    stage.require(artifact, where=place)
    return 0


def quantize(arguments: Arguments) -> int:
    """The quantize stage and its table."""
    return run_stage(arguments, "quantize")


def report(arguments: Arguments) -> int:
    """The report; prints the path of the page."""
    return run_stage(arguments, "report")


def serve(arguments: Arguments) -> int:
    """Serves until a signal."""
    from tunewright.serve import stage

    opened = open_project(arguments)
    config = opened.config
    if "--dry-run" in arguments.flags:
        from tunewright.serve import choose
        from tunewright.serve.engines.config import ENGINES

        maker = ENGINES.target(config.serve.engine.name)(config.serve.engine)
        if maker.wants == "nothing":
            print_result(arguments, {"engine": config.serve.engine.name}, maker.sentence)
            return 0
        source = arguments.from_directory
        chosen = choose.choose(opened.workspace, config.model, source_directory=source, wants=maker.wants)
        print_result(arguments, {"artifact": str(chosen.artifact.path), "variant": chosen.variant}, chosen.sentence)
        return 0
    stage.run(
        opened.workspace,
        config.serve,
        model=config.model,
        source=arguments.from_directory,
        primary=config.evaluate.primary,
    )
    return 0


def chat(arguments: Arguments) -> int:
    """A conversation in the terminal."""
    from tunewright.serve import stage

    opened = open_project(arguments)
    stage.chat(opened.workspace, opened.config.serve, model=opened.config.model, source=arguments.from_directory)
    return 0


def run_stage(arguments: Arguments, name: str) -> int:
    """Runs the stage `name` and prints its result, or with --dry-run what it would do."""
    opened = open_project(arguments)
    if "--dry-run" in arguments.flags:
        plan = pipeline.plan(opened.config, opened.workspace, only=name)
        print_result(arguments, {"stages": plan.stages, "disk_bytes": plan.disk_bytes}, plan.text())
        return 0
    stages = Stages(opened.config, opened.workspace, opened.file.name)
    artifact = stages.run(name, _inputs(opened, name))
    print_result(arguments, {"artifact": str(artifact.path), **artifact.manifest.facts}, pipeline.table(artifact))
    say(f"{name}: {opened.workspace.relative(artifact.path)}")
    return 0


def _inputs(opened: Opened, name: str) -> dict[str, Artifact]:
    """The newest passed artifacts the stage needs, said on stderr; for the report the newest there are, passed or not:
    a failed gate must show."""
    found = {}
    for stage in pipeline.needs(opened.config, name):
        finished = opened.workspace.finished(stage)
        if name == "report" and stage != "data" and not finished:
            continue
        found[stage] = finished[-1] if name == "report" and finished else opened.artifact(stage)
        say(f"{name}: uses {opened.workspace.relative(found[stage].path)}")
    return found
