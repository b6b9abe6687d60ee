"""`serve` and what goes with a running server: `warm`, `top`, `worker`, and models by name: `add`, `remove`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from tunewright.cli import Arguments
from tunewright.core.errors import ConfigError, TunewrightError
from tunewright.core.events import say
from tunewright.verbs.opened import open_project
from tunewright.verbs.printed import print_result


def serve(arguments: Arguments) -> int:
    """Serves until a signal, or one of the subverbs."""
    from tunewright.verbs import stages

    subverbs: dict[str, Callable[[Arguments], int]] = {
        "warm": _warm,
        "top": _top,
        "worker": _worker,
        "add": _add,
        "remove": _remove,
    }
    return subverbs.get(arguments.subverb, stages.serve)(arguments)


def _warm(arguments: Arguments) -> int:
    """Asks the running server frequent questions, so that it keeps the answers."""
    from tunewright.serve import warm

    names = arguments.names()
    if not names:
        raise ConfigError("`serve warm` needs a file of questions", fix="tunewright serve warm questions.jsonl")
    requests = [request for name in names for request in warm.read_questions(Path(name))]
    opened = open_project(arguments)
    config = opened.config.serve
    done = warm.warm(
        warm.server_url(config),
        opened.config.name,
        requests,
        keys=list(config.tenants.values()),
        concurrency=config.batch_size,
    )
    text = f"{done.new} answers generated and kept, {done.known} were there"
    if done.skipped:
        text += f", {done.skipped} not kept: they are drawn at a temperature without a seed"
    print_result(arguments, asdict(done), text)
    if done.failed:
        raise TunewrightError(f"{len(done.failed)} questions were refused\n  " + "\n  ".join(done.failed[:10]))
    return 0


def _top(arguments: Arguments) -> int:
    """The questions asked most, with --write as a file for `serve warm`."""
    from tunewright.serve import frequent
    from tunewright.serve.folders import questions_file

    opened = open_project(arguments)
    found = frequent.top(questions_file(opened.workspace), arguments.count)
    if arguments.write:
        frequent.write(Path(arguments.write), found)
        say(f"serve: wrote {arguments.write}")
    lines = [f"{question.count:>6}  {' '.join(question.text.split())}" for question in found]
    print_result(arguments, [asdict(question) for question in found], "\n".join(lines))
    return 0


def _worker(arguments: Arguments) -> int:
    """Takes jobs of the running server until SIGTERM."""
    from tunewright.serve.folders import served_folder
    from tunewright.serve.jobs import worker
    from tunewright.serve.warm import server_url

    opened = open_project(arguments)
    config = opened.config.serve
    if config.jobs.broker == "off":
        raise ConfigError("serve.jobs.broker is off, so there are no jobs", fix="set it to `embedded` or redis://...")
    folder = served_folder(opened.workspace)
    return worker.work(
        worker.WorkerSettings(
            project=opened.config.name,
            folder=folder,
            broker=worker.broker_of(folder, config.jobs),
            fallback_url=worker.read_place(folder).get("url") or server_url(config),
            keys=config.tenants,
            jobs=config.jobs,
        )
    )


def _add(arguments: Arguments) -> int:
    """Registers a model under a name, so that a server may load it."""
    from tunewright.core import named
    from tunewright.serve import choose

    name = _one_name(arguments, "add", "serve add NAME --from runs/PROJECT/train/0001")
    if arguments.from_directory is None:
        raise ConfigError("`serve add` needs --from: the artifact, or the folder of one variant")
    opened = open_project(arguments)
    chosen = choose.choose(
        opened.workspace, opened.config.model, source_directory=arguments.from_directory, wants="any"
    )
    pointer = named.register(opened.workspace, name, chosen.artifact, chosen.variant)
    text = (
        f"{name}: {pointer.artifact} ({pointer.variant})\nserve it from the start with serve.models: [{name}], or load "
        'it into a running server: POST /v1/load_lora_adapter {"lora_name": "' + name + '"}'
    )
    print_result(arguments, {"name": name, **pointer.model_dump()}, text)
    return 0


def _remove(arguments: Arguments) -> int:
    """Forgets a name; the artifact stays, and a running server goes on with it until it is unloaded."""
    from tunewright.core import named

    name = _one_name(arguments, "remove", "serve remove NAME")
    opened = open_project(arguments)
    named.forget(opened.workspace, name)
    print_result(arguments, {"name": name}, f"{name}: forgotten; its artifact was not touched")
    return 0


def _one_name(arguments: Arguments, verb: str, usage: str) -> str:
    found = arguments.names()
    if len(found) != 1:
        raise ConfigError(f"`serve {verb}` needs one name", fix=f"tunewright {usage}")
    return found[0]
