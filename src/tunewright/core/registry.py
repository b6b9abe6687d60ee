"""One idiom for everything that is chosen by name: `{name: x, ...options}`.

A registry maps a name to two import strings, the class that does the work and the light options class that
checks the project file. Both are imported on first use. Other packages add entries through entry points of the
group `tunewright.<kind>`; the loaded object must be an `Entry`.
"""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import entry_points
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from tunewright.core.config import Section
from tunewright.core.errors import ConfigError, MissingExtraError


@dataclass(frozen=True)
class Entry:
    """`target` and `options` are "module:Class"; `extra` is the pip extra that brings what `target` imports."""

    target: str
    options: str
    extra: str = ""


class PluginOptions(Section):
    """Base of every options class: `name` chooses the plug-in, the other fields are its knobs."""

    name: str


class Registry:
    """The plug-ins of one kind, built in and from entry points."""

    def __init__(self, kind: str, builtin: dict[str, Entry]) -> None:
        self.kind = kind
        self._builtin = builtin

    @cached_property
    def entries(self) -> dict[str, Entry]:
        found = dict(self._builtin)
        for point in entry_points(group=f"tunewright.{self.kind}"):
            found[point.name] = point.load()
        return found

    def options(self, name: str) -> type[PluginOptions]:
        """The options class of `name`; raises ConfigError for an unknown name."""
        loaded = _import(self._entry(name).options, self._entry(name).extra)
        assert issubclass(loaded, PluginOptions), loaded
        options: type[PluginOptions] = loaded
        return options

    def target(self, name: str) -> Any:
        """The class that does the work; raises MissingExtraError with the pip line when its library is absent."""
        return _import(self._entry(name).target, self._entry(name).extra)

    def _entry(self, name: str) -> Entry:
        if name not in self.entries:
            close = difflib.get_close_matches(name, self.entries, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(sorted(self.entries))}"
            raise ConfigError(f"there is no {self.kind} plug-in named '{name}'", fix=hint)
        return self.entries[name]


class Chosen:
    """Annotation that lets a config field hold one plug-in's options: `Annotated[PluginOptions, Chosen(registry)]`.

    The field then validates against the options class that `name` selects, so unknown knobs are refused.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        choices = {name: handler.generate_schema(self.registry.options(name)) for name in self.registry.entries}
        return core_schema.tagged_union_schema(choices, discriminator="name")


def _import(target: str, extra: str) -> Any:
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] == "tunewright":
            raise
        line = f"pip install 'tunewright[{extra}]'" if extra else f"pip install {error.name}"
        raise MissingExtraError(
            f"{module} needs the library '{error.name}', which is not installed", fix=line
        ) from None
