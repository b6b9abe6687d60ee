"""The stage `serve`: a short self-measurement as an artifact, and the verbs `serve` and `chat`, which write none."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunewright.core import events, files, runs
from tunewright.core.chat import Conversation
from tunewright.core.errors import ArtifactError, MissingExtraError
from tunewright.core.runs import Artifact, Workspace
from tunewright.models.config import ModelConfig
from tunewright.serve.config import ServeConfig
from tunewright.serve.engines.config import ENGINES, TransformersOptions

MEASUREMENT = "measurement.json"
NEW_TOKENS = 32
REQUESTS = 8
SINGLES = 3


def run(
    workspace: Workspace,
    config: ServeConfig,
    *,
    model: ModelConfig,
    source: Path | None = None,
    primary: str = "",
) -> None:
    """Serves until SIGTERM or SIGINT. `source` is what `--from` names; primary: the metric whose scores are logged with
    a canary. Writes no artifact.

    Raises ResourceError for a busy port, ArtifactError when there is nothing to serve.
    """
    _need_libraries()
    from tunewright.serve import serving
    from tunewright.serve.choose import Choice, choose
    from tunewright.serve.engines.http_engine import Place
    from tunewright.serve.engines.remote import Remote
    from tunewright.serve.fleet import Fleet, RunningEngine
    from tunewright.serve.log import Log
    from tunewright.serve.roster import Sources
    from tunewright.serve.server import Server

    say = Log(events.say, config.log).say
    place = Place(config.batch_size, config.queue, say)
    maker = ENGINES.target(config.engine.name)(config.engine)
    if isinstance(maker, Remote):
        say(maker.sentence)
        engine = maker.make(None, place)
        around = serving.around(workspace, config, maker.model(workspace.project), maker.identity(), say=say)
        Server(engine, config, around).run()
        return
    choice = choose(workspace, model, source_directory=source, wants=maker.wants)
    say(choice.sentence)

    def make(chosen: Choice) -> RunningEngine:
        made: RunningEngine = maker.make(chosen, place)
        return made

    at_start = tuple(dict.fromkeys([*config.models, *([config.canary.name] if config.canary else [])]))
    follow = config.follow_promotion and source is None
    sources = Sources(workspace, model, make, say, primary=primary, follow=follow, at_start=at_start, wants=maker.wants)
    Server(Fleet(make(choice)), config, serving.parts(workspace, config, choice, sources, say=say)).run()


def chat(
    workspace: Workspace,
    config: ServeConfig,
    *,
    model: ModelConfig,
    source: Path | None = None,
    read_line: Callable[[str], str] = input,
    write: Callable[[str], None] | None = None,
) -> None:
    """Talks to the model that `serve` would serve, greedy, in the terminal."""
    from tunewright.models.generate import Sampling
    from tunewright.serve import terminal
    from tunewright.serve.choose import choose

    choice = choose(workspace, model, source_directory=source)
    events.say(choice.sentence)
    sampling = Sampling(max_new_tokens=config.max_new_tokens)
    terminal.chat(choice.load(), read_line, write or _write_now, sampling=sampling)


def measure(
    workspace: Workspace,
    config: ServeConfig,
    *,
    model: ModelConfig,
    data: Artifact,
    quantize: Artifact | None,
    train: Artifact,
) -> Artifact:
    """Starts the real server on a free loopback port, asks it questions of the test split, seals the speeds.

    first_token_s is the median of 3 single requests, tokens_per_second the total of 8 concurrent ones; each answer
    has at most 32 tokens.
    """
    used = [data, train] if quantize is None else [data, train, quantize]
    settings = {"serve": _settings(config), "model": model.model_dump(mode="json")}
    output = runs.begin(workspace, "serve", settings, tuple(workspace.reference(artifact) for artifact in used))
    if isinstance(output, Artifact):
        return output
    try:
        _need_libraries()
        measured = _measure(workspace, config, model=model, data=data, quantize=quantize, train=train)
        output.events.write("measured", **measured)
        files.write_json(output.path / MEASUREMENT, measured)
        output.facts |= measured
        return output.seal()
    finally:
        output.release()


def _measure(
    workspace: Workspace,
    config: ServeConfig,
    *,
    model: ModelConfig,
    data: Artifact,
    quantize: Artifact | None,
    train: Artifact,
) -> dict[str, Any]:
    from tunewright.serve import probe
    from tunewright.serve.app import Parts
    from tunewright.serve.choose import choose_from
    from tunewright.serve.engines.http_engine import Place
    from tunewright.serve.server import Server, in_thread
    from tunewright.serve.wire import Model, now

    options = TransformersOptions() if config.engine.name == "remote" else config.engine
    maker = ENGINES.target(options.name)(options)
    choice = choose_from(workspace, model, quantize=quantize, train=train, wants=maker.wants)
    events.say(choice.sentence)
    rows = [Conversation.from_row(row).prompt for row in data.jsonl("test.jsonl")[:REQUESTS]]
    if not rows:
        raise ArtifactError("the test split is empty, so the server has no questions", where=str(data.path))
    local = config.model_copy(update={"host": "127.0.0.1", "port": 0, "queue": max(config.queue, REQUESTS)})
    engine = maker.make(choice, Place(local.batch_size, local.queue))
    name = engine.name
    with in_thread(Server(engine, local, Parts(Model(id=workspace.project, created=now())), log=_no_log)) as url:
        loaded = engine.loaded
        assert loaded is not None
        tokens = min(NEW_TOKENS, config.max_new_tokens)
        key = next(iter(config.tenants.values()), None)
        target = probe.Target(url, workspace.project, key, tokens)
        prompts = [probe.fitting(row, loaded.tokenizer, loaded.context - tokens) for row in rows]
        prompts = [prompts[index % len(prompts)] for index in range(REQUESTS)]
        speed = probe.measure_speed(target, prompts, singles=SINGLES, concurrency=REQUESTS)
    del engine, loaded
    gc.collect()
    return {
        "first_token_s": speed.first_token_s,
        "tokens_per_second": speed.tokens_per_second,
        "requests": speed.requests,
        "concurrency": speed.concurrency,
        "engine": name,
        "variant": choice.variant,
    }


def _settings(config: ServeConfig) -> dict[str, Any]:
    """What decides the measurement; where the server listens and its key do not."""
    return config.model_dump(mode="json", include={"engine", "batch_size", "max_new_tokens"})


def _need_libraries() -> None:
    try:
        import fastapi
        import uvicorn
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"serving needs {error.name}, which is not installed", fix="pip install 'tunewright[serve]'"
        ) from None
    del fastapi, uvicorn


def _no_log(_: str) -> None:
    """The measurement's own requests are not worth a line each."""


def _write_now(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
