"""`data`: the stage, and the looks at rows that need no run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

from tunewright.cli import Arguments
from tunewright.core.config import apply_overrides, validate
from tunewright.core.errors import ArtifactError, ConfigError, GateError, MissingExtraError
from tunewright.core.events import say
from tunewright.data.config import DataConfig
from tunewright.models.config import ModelConfig
from tunewright.verbs.opened import open_project


def data(arguments: Arguments) -> int:
    """The stage, or the sub-verb."""
    if arguments.subverb == "check":
        return _check(arguments)
    if arguments.subverb == "show":
        return _show(arguments)
    if arguments.subverb in ("find", "purge"):
        return _row(arguments)
    if "--dry-run" in arguments.flags:
        return _plan(arguments)
    from tunewright.verbs.stages import run_stage

    try:
        return run_stage(arguments, "data")
    except GateError as error:
        if error.folder is not None:
            _show_failed(arguments, error.folder)
        raise


def _show_failed(arguments: Arguments, folder: Path) -> None:
    """The table of an artifact whose gate did not pass: which rows, and why."""
    from tunewright.data.table import table

    report = folder / "report.json"
    if "--json" not in arguments.flags:
        sys.stdout.write(table(json.loads(report.read_text(encoding="utf-8"))))
        say(f"data: {report.with_suffix('.html')} shows more")


def _plan(arguments: Arguments) -> int:
    """What the stage would do."""
    from tunewright.data.plan import plan

    opened = open_project(arguments)
    config = opened.config
    found = plan(opened.workspace, config.data, model=config.model, seed=config.seed)
    text = json.dumps(found.dump(), ensure_ascii=False, indent=2) if "--json" in arguments.flags else found.text()
    sys.stdout.write(text + "\n")
    return 0


def _check(arguments: Arguments) -> int:
    """The findings of files; nothing is written. Overrides such as data.max_quarantined=0.1 or model.path=... hold."""
    from tunewright.data.check import check
    from tunewright.data.prepare import Selection
    from tunewright.data.workers import Recipe
    from tunewright.models.tokens import ChatTokenizer

    config, model = _settings(arguments.overrides)
    folder = _tokenizer(model)
    limit = ChatTokenizer.load(folder).max_length if folder else 0
    recipe = Recipe(
        config.rules,
        Selection(system=config.system),
        folder,
        min(model.max_length or limit, limit),
        is_lenient=not any(word.startswith("model.") for word in arguments.overrides),
    )
    checked = check(arguments.words, recipe, root=Path.cwd(), max_chars=config.max_chars, encoding=config.encoding)
    if "--json" in arguments.flags:
        sys.stdout.write(json.dumps(checked.dump(), ensure_ascii=False, indent=2) + "\n")
    else:
        sys.stdout.write(checked.text() + "\n")
    if checked.share > config.max_quarantined:
        raise GateError(
            f"{checked.share:.1%} of the rows would be quarantined; the limit is {config.max_quarantined:.1%}",
            fix="mend the rows above, or add data.max_quarantined=SHARE",
        )
    return ArtifactError.exit_code if checked.unreadable else 0


def _settings(overrides: list[str]) -> tuple[DataConfig, ModelConfig]:
    given: dict[str, Any] = {"data": {"sources": ["-"]}, "model": {"path": "builtin:smollm2-135m"}}
    apply_overrides(given, overrides, {})
    if unknown := [name for name in given if name not in ("data", "model")]:
        raise ConfigError(f"`data check` has no section '{unknown[0]}'", fix="it takes data.KEY=... and model.KEY=...")
    where = "command line"
    return validate(DataConfig, given["data"], {}, where), validate(ModelConfig, given["model"], {}, where)


def _tokenizer(model: ModelConfig) -> Path | None:
    """The model's folder, for its tokenizer. The built-in model is converted by another process the first time, so
    that this one never loads torch; where it is not installed the token checks are left out, and that is said."""
    from tunewright.models import source

    code = (
        "import sys; from pathlib import Path; from tunewright.models import config, source;"
        "print(source.resolve(config.ModelConfig(path=sys.argv[1]), Path.cwd()))"
    )
    if not model.path.startswith(source.BUILTIN):
        return source.resolve(model, Path.cwd())
    try:
        if source.is_ready(model.path):
            return source.resolve(model, Path.cwd())
    except MissingExtraError as error:
        say(f"data check: without token checks ({error.problem}; {error.fix})")
        return None
    say("data check: the built-in model is made ready once")
    done = subprocess.run([sys.executable, "-c", code, model.path], capture_output=True, text=True, env=os.environ)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ArtifactError(f"{model.path} cannot be made ready: {last}", fix="`tunewright doctor` says more")
    return Path(done.stdout.strip().splitlines()[-1])


def _show(arguments: Arguments) -> int:
    """Rows as they are trained."""
    from tunewright.data.show import show
    from tunewright.models.source import resolve
    from tunewright.models.tokens import ChatTokenizer

    opened = open_project(arguments)
    artifact = opened.artifact("data")
    tokenizer = ChatTokenizer.load(resolve(opened.config.model, opened.workspace.root))
    say(f"data show: {opened.workspace.relative(artifact.path)}")
    sys.stdout.write(
        show(
            artifact,
            tokenizer,
            split=arguments.split,
            row_id=arguments.row,
            count=arguments.count,
            max_length=artifact.json("report.json")["tokens"]["max_length"],
            colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR"),
        )
        + "\n"
    )
    return 0


def _row(arguments: Arguments) -> int:
    """Where a row is and what was made of it; `purge` takes it out of what is made from now on."""
    from tunewright.data.sources import locate_sources
    from tunewright.lineage.find import find
    from tunewright.lineage.purge import purge
    from tunewright.lineage.rows import source_files

    opened = open_project(arguments)
    word, kind = _asked(arguments)
    config = opened.config.data
    named = (*config.sources, *config.split.validation_sources, *config.split.test_sources)
    located = []
    for name in named:
        try:
            located += locate_sources(
                opened.workspace.root, (("shared", (name,)),), max_chars=config.max_chars, encoding=config.encoding
            )
        except ArtifactError as error:  # the owner may have deleted it already
            say(f"data {arguments.subverb}: {name} is not searched: {error.problem}")
    sources = source_files(located, max_chars=config.max_chars)
    found: Any
    if arguments.subverb == "find":
        found = find(opened.workspace, sources, word, kind=kind)
    else:
        found = purge(
            opened.workspace,
            sources,
            word,
            kind=kind,
            dry_run="--dry-run" in arguments.flags,
            project_file=opened.file.name,
        )
    text = json.dumps(found.dump(), ensure_ascii=False, indent=2) if "--json" in arguments.flags else found.text()
    sys.stdout.write(text.rstrip("\n") + "\n")
    return 0


def _asked(arguments: Arguments) -> tuple[str, Literal["auto", "id", "text"]]:
    """What is looked for: --id or --text, or a word of which is tried whether it is the id of a row."""
    verb = f"data {arguments.subverb}"
    words = [word for word in arguments.words if not word.endswith((".yaml", ".yml"))]
    given = [*words, *(value for value in (arguments.id, arguments.text) if value is not None)]
    if len(given) != 1:
        raise ConfigError(
            f"`{verb}` takes one text or row id" + (f", not {len(given)}" if given else ""),
            fix=f"tunewright {verb} PROJECT.yaml --id raw/support.jsonl:17, or --text 'Zhang Wei'",
        )
    return given[0], "id" if arguments.id is not None else "text" if arguments.text is not None else "auto"
