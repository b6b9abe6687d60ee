"""The command line: it parses words and calls a verb of verbs/table.py, whose code is imported only then."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tunewright.verbs.table import OPTIONS, VERBS, Option, Verb, options_of


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
    metrics: str | None = None
    sweep: int | None = None
    minutes: int | None = None
    write: str | None = None
    export: str | None = None
    id: str | None = None
    text: str | None = None
    by: str | None = None
    why: str | None = None
    junit: str | None = None
    template: str | None = None
    variant: str | None = None
    server: str | None = None
    launch: int | None = None
    emit: str | None = None
    nodes: int | None = None
    model_config: str | None = None
    memory: str | None = None
    devices: int | None = None
    price: str | None = None

    def names(self) -> list[str]:
        """The words that name no project file."""
        return [word for word in self.words if not word.endswith((".yaml", ".yml"))]

    def project_file(self) -> Path:
        """The project file named, else project.yaml here; raises ConfigError when there is none."""
        from tunewright.core.errors import ConfigError

        named = [word for word in self.words if word.endswith((".yaml", ".yml"))]
        if len(named) > 1:
            raise ConfigError(f"one project file at a time, not {' and '.join(named)}")
        if not named and not Path("project.yaml").exists():
            inside = next((word for word in self.words if (Path(word) / "project.yaml").exists()), None)
            raise ConfigError(
                "no project file was named and there is no project.yaml here",
                fix=f"name {inside}/project.yaml" if inside else "name one, or make one: `tunewright init finance DIR`",
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
    known = options_of(name)
    while rest:
        word = rest.pop(0)
        option, separator, value = word.partition("=")
        if option in known and not known[option].value and not separator:
            arguments.flags.add(word)
        elif option in known and known[option].value:
            _set_option(arguments, option, value if separator else (rest.pop(0) if rest else ""))
        elif word.startswith("-"):
            others = OPTIONS[option].verbs if option in OPTIONS else ()
            hint = f"it belongs to {', '.join(others)}" if others else _close(word, known)
            raise ConfigError(f"`{name}` has no option '{word}'", fix=hint)
        elif separator and not Path(word).exists():
            arguments.overrides.append(word)
        else:
            arguments.words.append(word)
    return arguments


def _set_option(arguments: Arguments, option: str, value: str) -> None:
    from tunewright.core.errors import ArtifactError, ConfigError

    if not value:
        raise ConfigError(f"{option} needs a value", fix=f"{option} {OPTIONS[option].value}")
    if option == "--from":
        arguments.from_directory = Path(value)
        if not arguments.from_directory.is_dir():
            raise ArtifactError(
                "there is no such directory", where=value, fix="`tunewright runs list` shows the artifacts"
            )
    elif not OPTIONS[option].is_number:
        setattr(arguments, option[2:].replace("-", "_"), value)
    elif value.isdigit():
        setattr(arguments, option[2:], int(value))
    else:
        raise ConfigError(f"{option} needs a number, not '{value}'")


def _close(word: str, known: Mapping[str, object]) -> str:
    import difflib

    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"


def _help() -> str:
    verbs = "\n".join(f"  {name:<10} {verb.summary}" for name, verb in VERBS.items())
    shared = {name: option for name, option in OPTIONS.items() if not option.verbs}
    return (
        "tunewright VERB [PROJECT.yaml] [section.key=value ...]\n"
        "From raw conversations to a served chat model that is proven better.\n\n"
        f"verbs:\n{verbs}\n\noptions of every verb (`tunewright VERB --help` shows its own):\n{_lines(shared)}\n\n"
        "Every other knob is a key of the project file: `tunewright config explain`, docs/reference/project-file.md."
    )


def _verb_help(name: str, verb: Verb) -> str:
    return f"tunewright {name} {verb.usage}\n{verb.summary}\n\noptions:\n{_lines(options_of(name))}"


def _lines(options: Mapping[str, Option]) -> str:
    shown = {f"{name} {option.value}".rstrip(): option.text for name, option in options.items()}
    width = max(map(len, shown))
    return "\n".join(f"  {name:<{width}}  {text}" for name, text in shown.items())
