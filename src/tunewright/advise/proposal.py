"""What advice consists of: one line a key, the settings that follow, and the command line that gives them."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from typing import Any

from tunewright.advise.sources import SOURCES
from tunewright.project import ProjectConfig
from tunewright.train.config import TrainConfig

METHOD = "train.method"
_SHOWN = ("name", "rank", "alpha", "targets")
"""Options that are written also where they are the default."""
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_WORDS = {"true", "false", "null", "nan"}


@dataclass(frozen=True)
class Line:
    """One key. sources: keys of SOURCES. `now == proposed` is advice too: keep it, and why."""

    key: str
    now: Any
    proposed: Any
    why: str
    sources: tuple[str, ...]

    @property
    def changes(self) -> bool:
        """Whether the project file has to change."""
        return bool(self.now != self.proposed)

    def dump(self) -> dict[str, Any]:
        """For JSON, the sources written out."""
        cited = [SOURCES[name] for name in self.sources]
        return {
            "key": self.key,
            "now": self.now,
            "proposed": self.proposed,
            "changes": self.changes,
            "why": self.why,
            "sources": [{"name": s.name, "says": s.says, "place": s.place} for s in cited],
        }


@dataclass(frozen=True)
class Proposal:
    """The lines in the order they are read, notes on what no key mends, and the settings that follow."""

    lines: tuple[Line, ...]
    notes: tuple[str, ...]
    train: TrainConfig


def changed_settings(project: ProjectConfig, train: TrainConfig) -> dict[str, Any]:
    """Keys below `train.` whose value differs, as the project file would hold them. The method is one value, because
    its options belong to its name."""
    before, after = project.train.model_dump(mode="json"), train.model_dump(mode="json")
    found = {f"train.{name}": after[name] for name in after if after[name] != before.get(name)}
    if METHOD in found:
        named = {key: value for key, value in found[METHOD].items() if key in _SHOWN}
        found[METHOD] = named | train.method.model_dump(mode="json", exclude_defaults=True)
    return found


def overrides(project: ProjectConfig, train: TrainConfig) -> list[str]:
    """The changes as `section.key=value` words."""
    return [f"{key}={flow(value)}" for key, value in changed_settings(project, train).items()]


def command(project: ProjectConfig, train: TrainConfig, file: str) -> str:
    """One line to copy; without any change the plain command."""
    words = [shlex.quote(word) for word in overrides(project, train)]
    return " ".join(["tunewright train", shlex.quote(file), *words])


def flow(value: Any) -> str:
    """`value` as YAML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e6:
        return str(int(value))
    return json.dumps(value, ensure_ascii=False)


def shown_value(value: Any) -> Any:
    """A config value as plain data: sections and options as dicts, tuples as lists."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return list(value) if isinstance(value, tuple) else value
