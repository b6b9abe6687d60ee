"""`rate`: the human rating page, its results and exports."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.cli import Arguments
from tunewright.core import files, manifest
from tunewright.core.config import Lines, apply_overrides, validate
from tunewright.core.errors import ConfigError, MissingExtraError
from tunewright.core.events import say
from tunewright.rating import database, export, table
from tunewright.rating.config import RateConfig
from tunewright.rating.design import Design
from tunewright.rating.items import read
from tunewright.rating.results import results
from tunewright.rating.store import Store, sampled
from tunewright.rating.study import Pool

STORE = "rating.sqlite"
_PREFIX = "rate."
SPLIT_WARNING = (
    "rate: warning: these rows come from a test split. Once a model is trained on them they can no longer test it: "
    "take them out of the test split first, `tunewright data` names such leaks."
)


@dataclass(frozen=True)
class _Inputs:
    """config: of the project and the command line; store: its file; answers: where they are, nothing when the store
    alone was named; root: what their paths are named from; seed: the project's."""

    config: RateConfig
    store: Path
    answers: tuple[Path, ...]
    root: Path
    seed: int | None = None


def rate(arguments: Arguments) -> int:
    """Serves the page; with --results prints what the votes say, with --export writes them."""
    if "--results" in arguments.flags and arguments.export:
        raise ConfigError("--results and --export are two commands", fix="run one after the other")
    if arguments.export is not None and arguments.export not in export.KINDS:
        raise ConfigError(f"there is no export '{arguments.export}'", fix=f"one of {', '.join(export.KINDS)}")
    inputs = _inputs(arguments)
    config = inputs.config
    if "--results" in arguments.flags:
        return _results(arguments, Store.open(inputs.store))
    if arguments.export:
        return _export(arguments, Store.open(inputs.store))
    pool = read(inputs.answers, root=inputs.root) if inputs.answers else None
    seeded = config
    if inputs.seed is not None and "seed" not in config.model_fields_set:
        seeded = config.model_copy(update={"seed": inputs.seed})
    if "--dry-run" in arguments.flags:
        return _plan(inputs.store, pool, seeded)
    if database.is_begun(inputs.store) or pool is None:
        store = _resumed(inputs.store, pool, config)
    else:
        store = _begun(inputs.store, pool, seeded)
    try:
        _serve(store, config)
    finally:
        store.close()
    return 0


def _serve(store: Store, config: RateConfig) -> None:
    try:
        from tunewright.rating import server
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("tunewright"):
            raise
        raise MissingExtraError(
            f"the rating page needs the library '{error.name}', which is not installed",
            fix="pip install 'tunewright[serve]'",
        ) from None
    server.run(store, config, say=say)


def _config(overrides: list[str]) -> RateConfig:
    """The options where no project file is named: `rate.KEY=VALUE` words."""
    other = [word for word in overrides if not word.startswith(_PREFIX)]
    if other:
        raise ConfigError(f"`rate` has no option '{other[0]}'", fix="write rate.KEY=VALUE")
    data: dict[str, Any] = {}
    lines: Lines = {}
    apply_overrides(data, [word.removeprefix(_PREFIX) for word in overrides], lines)
    return validate(RateConfig, data, lines, "command line")


def _inputs(arguments: Arguments) -> _Inputs:
    stores = [Path(word) for word in arguments.words if word.endswith(".sqlite")]
    answers = [Path(word) for word in arguments.names() if not word.endswith(".sqlite")]
    projects = len(arguments.words) - len(stores) - len(answers)
    if len(stores) > 1:
        raise ConfigError(f"one store at a time, not {len(stores)}")
    if answers and projects:
        raise ConfigError("name a project or the files with answers, not both")
    if answers:
        beside = answers[0] if answers[0].is_dir() else answers[0].parent
        place = stores[0] if stores else _beside(beside)
        return _Inputs(_config(arguments.overrides), place, tuple(answers), Path.cwd())
    if stores and not projects and arguments.from_directory is None:
        return _Inputs(_config(arguments.overrides), stores[0], (), Path.cwd())
    from tunewright.verbs.opened import open_project

    arguments.words = [word for word in arguments.words if not word.endswith(".sqlite")]
    opened = open_project(arguments)
    artifact = opened.artifact("evaluate")
    say(f"rate: answers of {opened.workspace.relative(artifact.path)}")
    own = opened.workspace.stage_directory("rating") / f"{artifact.path.name}.sqlite"
    place = stores[0] if stores else own
    return _Inputs(opened.config.rate, place, (artifact.path,), opened.workspace.root, opened.config.seed)


def _beside(folder: Path) -> Path:
    """Beside the files; never inside a sealed artifact."""
    sealed = (folder / manifest.NAME).exists()
    return folder.parent.parent / "rating" / f"{folder.name}.sqlite" if sealed else folder / STORE


def _resumed(place: Path, pool: Pool | None, config: RateConfig) -> Store:
    store = Store.open(place)
    store.require(config, pool)
    say(f"rate: goes on with {place}: {len(store.votes())} votes of {len(store.raters())} raters")
    return store


def _begun(place: Path, pool: Pool, config: RateConfig) -> Store:
    store = Store.create(place, pool, config)
    for note in pool.notes:
        say(f"rate: {note}")
    say(f"rate: {len(store.items)} items of {', '.join(store.systems)}; votes go to {place}")
    return store


def _plan(place: Path, pool: Pool | None, config: RateConfig) -> int:
    state = "goes on with" if database.is_begun(place) else "would begin"
    lines = [f"{state} {place}"]
    if pool is not None:
        items = len(sampled(pool, config))
        design = Design(pool.systems, items, config.seed, config.repeats, config.pairs_per_item)
        tasks = design.tasks(0)
        again = sum(task.repeat_of is not None for task in tasks)
        lines.append(f"{items} items of {', '.join(pool.systems)}; {len(tasks)} tasks a rater, {again} of them repeats")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _results(arguments: Arguments, store: Store) -> int:
    found = results(store.votes(), store.systems, seed=store.settings["seed"])
    progress = {rater.name: store.progress(rater) for rater in store.raters()}
    if "--json" in arguments.flags:
        sys.stdout.write(json.dumps(found.dump(), ensure_ascii=False, allow_nan=False, indent=2) + "\n")
    else:
        sys.stdout.write(table.text(found, progress) + "\n")
    return 0


def _export(arguments: Arguments, store: Store) -> int:
    study = export.Study(store.items, store.sources, store.fingerprint)
    cast, kind = store.votes(), arguments.export
    if kind == "votes":
        found = export.votes(cast)
    elif kind == "rows":
        found = export.rows(cast, study)
    else:
        found, left_out = export.preferences(cast, study)
        for reason, count in left_out.items():
            say(f"rate: {count} pairs left out: {reason}")
    if kind != "votes" and found and any(source.split == "test" for source in store.sources):
        say(SPLIT_WARNING)
    is_table = arguments.write is not None and arguments.write.endswith(".csv")
    if is_table and kind != "votes":
        raise ConfigError(f"{kind} hold conversations, which a table cannot", fix="--write FILE.jsonl")
    text = export.as_csv(found) if is_table else export.as_jsonl(found)
    if arguments.write is None:
        sys.stdout.write(text)
    else:
        files.write_text(Path(arguments.write), text)
    say(f"rate: {len(found)} {kind}" + (f" in {arguments.write}" if arguments.write else ""))
    return 0
