"""`plan`: what a training takes, whether it fits, and what else would."""

from __future__ import annotations

from pathlib import Path

from tunewright.cli import Arguments
from tunewright.core.errors import ArtifactError, ConfigError
from tunewright.core.runs import Artifact
from tunewright.verbs.opened import Opened, open_project
from tunewright.verbs.printed import print_result


def plan(arguments: Arguments) -> int:
    """The plan of a project, or with --model-config alone that of a model with the defaults of `train:`."""
    from tunewright.plan.make import Asked, make
    from tunewright.plan.text import text

    is_alone = arguments.model_config is not None and not arguments.words and not Path("project.yaml").exists()
    if is_alone and arguments.overrides:
        raise ConfigError("without a project file there is nothing to override", fix="name a project file as well")
    opened = None if is_alone else open_project(arguments)
    asked = Asked(
        model_config=_existing(arguments.model_config),
        memory=arguments.memory,
        devices=arguments.devices,
        probe="--probe" in arguments.flags and "--dry-run" not in arguments.flags,
        price=_price(arguments.price),
    )
    found = make(
        opened.config if opened else None,
        opened.workspace if opened else None,
        _data(opened) if opened else None,
        asked,
    )
    print_result(arguments, found.dump(), text(found))
    return 0


def _data(opened: Opened) -> Artifact | None:
    """The rows, where there are any yet."""
    try:
        return opened.artifact("data")
    except ArtifactError:
        return None


def _existing(name: str | None) -> Path | None:
    if name is None:
        return None
    place = Path(name).expanduser()
    if not place.exists():
        raise ArtifactError("there is no such file", where=name, fix="--model-config PATH of a config.json")
    return place


def _price(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        price = float(text)
    except ValueError:
        raise ConfigError(f"--price needs a number, not '{text}'", fix="--price 2.50") from None
    if price < 0:
        raise ConfigError("--price cannot be negative", fix="--price 2.50")
    return price
