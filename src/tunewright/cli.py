"""The command line: a table of verbs. A verb's code is imported only when that verb runs."""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Verb:
    """`handler` is "module:function", called with Arguments, returns the exit code."""

    summary: str
    handler: str
    subverbs: tuple[str, ...] = ()
    usage: str = "[PROJECT.yaml] [section.key=value ...]"
    needs_subverb: bool = True


_STAGES = "tunewright.verbs.stages"
_LOOK = "tunewright.verbs.look"
VERBS = {
    "init": Verb("make a project folder for a vertical", "tunewright.verbs.setup:init", (), "KIND DIR"),
    "doctor": Verb("check this machine and, with a project, its model", "tunewright.verbs.setup:doctor"),
    "run": Verb("all stages in order, skipping what is finished and unchanged", f"{_STAGES}:run"),
    "data": Verb(
        "read, repair, check and split the conversations; look at them",
        "tunewright.verbs.data:data",
        ("check", "show", "find", "purge"),
        "[PROJECT.yaml] | check FILE... | show [PROJECT.yaml] | find|purge [PROJECT.yaml] TEXT|ID",
        needs_subverb=False,
    ),
    "train": Verb("fine-tune; continues where it was stopped", f"{_STAGES}:train"),
    "evaluate": Verb("base against tuned on the test split, with gates", f"{_STAGES}:evaluate"),
    "quantize": Verb("smaller variants, each measured against 16 bits", f"{_STAGES}:quantize"),
    "serve": Verb("the OpenAI-compatible server", f"{_STAGES}:serve"),
    "chat": Verb("talk to the tuned model in the terminal", f"{_STAGES}:chat"),
    "report": Verb("one HTML page of everything measured", f"{_STAGES}:report"),
    "runs": Verb(
        "artifacts on disk",
        f"{_LOOK}:runs",
        ("list", "show", "verify", "prune"),
        "list|show|verify|prune [PROJECT.yaml] [ARTIFACT]",
    ),
    "config": Verb(
        "the project file", f"{_LOOK}:config", ("check", "explain", "schema"), "check|explain|schema [PROJECT.yaml]"
    ),
    "plugins": Verb("what can be chosen by name", f"{_LOOK}:plugins", (), "[KIND]"),
}
_FLAGS = {
    "--dry-run": "print what would be done, and do nothing",
    "--json": "print the result as JSON on stdout",
    "--keep-going": "go on after a gate that did not pass",
    "--debug": "show the traceback of an error",
}
_OPTIONS = {
    "--from": "use this artifact instead of the newest that passed",
    "--keep": "how many artifacts a stage keeps",
    "--row": "the row to show, by its id",
    "--split": "the split to show rows of: train, validation or test",
    "--count": "how many rows to show",
}


@dataclass
class Arguments:
    """What stands on the command line after the verb."""

    subverb: str = ""
    words: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)
    from_directory: Path | None = None
    keep: int | None = None
    row: str | None = None
    split: str = "train"
    count: int = 6

    def project_file(self) -> Path:
        """The project file named, else project.yaml here; raises ConfigError when there is none."""
        from tunewright.core.errors import ConfigError

        named = [word for word in self.words if word.endswith((".yaml", ".yml"))]
        if len(named) > 1:
            raise ConfigError(f"one project file at a time, not {' and '.join(named)}")
        if not named and not Path("project.yaml").exists():
            raise ConfigError(
                "no project file was named and there is no project.yaml here", fix="name one, or `tunewright init`"
            )
        return Path(named[0] if named else "project.yaml")


def main(argv: list[str] | None = None) -> int:
    """Runs a verb; returns the exit code (see docs/reference/cli.md)."""
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if words[0] == "--version":
        from tunewright import __version__

        print(__version__)
        return 0
    debug = "--debug" in words
    from tunewright.core.errors import TunewrightError

    try:
        return _dispatch(words)
    except TunewrightError as error:
        if debug:
            raise
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError:
        sys.stderr.write("error: the memory of this machine does not suffice\n  next step: a smaller model or batch\n")
        return 1


def _dispatch(words: list[str]) -> int:
    name = words[0]
    if name not in VERBS:
        from tunewright.core.errors import ConfigError

        raise ConfigError(f"there is no verb '{name}'", fix=f"{_close(name, VERBS)}; `tunewright --help` lists all")
    verb = VERBS[name]
    if "-h" in words or "--help" in words:
        print(_verb_help(name, verb))
        return 0
    arguments = _parse(name, verb, words[1:])
    module, _, function = verb.handler.partition(":")
    return int(getattr(importlib.import_module(module), function)(arguments))


def _parse(name: str, verb: Verb, words: list[str]) -> Arguments:
    from tunewright.core.errors import ConfigError

    arguments = Arguments()
    rest = list(words)
    if verb.subverbs:
        is_one = bool(rest) and rest[0] in verb.subverbs
        if verb.needs_subverb and not is_one:
            raise ConfigError(
                f"`{name}` needs one of {', '.join(verb.subverbs)}", fix=f"tunewright {name} {verb.subverbs[0]}"
            )
        arguments.subverb = rest.pop(0) if is_one else ""
    while rest:
        word = rest.pop(0)
        if word in _FLAGS:
            arguments.flags.add(word)
        elif word.partition("=")[0] in _OPTIONS:
            option, separator, value = word.partition("=")
            _set_option(arguments, option, value if separator else (rest.pop(0) if rest else ""))
        elif word.startswith("-"):
            raise ConfigError(f"`{name}` has no option '{word}'", fix=_close(word, {**_FLAGS, **_OPTIONS}))
        elif "=" in word and not Path(word).exists():
            arguments.overrides.append(word)
        else:
            arguments.words.append(word)
    return arguments


def _set_option(arguments: Arguments, option: str, value: str) -> None:
    from tunewright.core.errors import ArtifactError, ConfigError

    if not value:
        raise ConfigError(f"{option} needs a value", fix=f"{option} {_VALUES[option]}")
    if option == "--from":
        arguments.from_directory = Path(value)
        if not arguments.from_directory.is_dir():
            raise ArtifactError(
                "there is no such directory", where=value, fix="`tunewright runs list` shows the artifacts"
            )
    elif option in ("--row", "--split"):
        setattr(arguments, option[2:], value)
    elif value.isdigit():
        setattr(arguments, option[2:], int(value))
    else:
        raise ConfigError(f"{option} needs a number, not '{value}'")


_VALUES = {"--from": "DIR", "--keep": "N", "--row": "ID", "--split": "train", "--count": "N"}


def _close(word: str, known: dict[str, object] | dict[str, Verb] | dict[str, str]) -> str:
    import difflib

    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"


def _help() -> str:
    verbs = "\n".join(f"  {name:<10} {verb.summary}" for name, verb in VERBS.items())
    flags = "\n".join(f"  {name:<13} {text}" for name, text in {**_OPTIONS, **_FLAGS}.items())
    return (
        "tunewright VERB [PROJECT.yaml] [section.key=value ...]\n"
        "From raw conversations to a served chat model that is proven better.\n\n"
        f"verbs:\n{verbs}\n\noptions:\n{flags}\n\n"
        "Every other knob is a key of the project file: `tunewright config explain`, docs/reference/project-file.md."
    )


def _verb_help(name: str, verb: Verb) -> str:
    flags = "\n".join(f"  {flag:<13} {text}" for flag, text in {**_OPTIONS, **_FLAGS}.items())
    return f"tunewright {name} {verb.usage}\n{verb.summary}\n\noptions:\n{flags}"
