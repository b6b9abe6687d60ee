"""Which files a project reads, and into which split's pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from tunewright.core.errors import ArtifactError, ConfigError
from tunewright.data.reading.rows import Layout, inspect

BUILTIN = {"builtin:bank": "bank.jsonl"}
Pool = Literal["shared", "validation", "test"]


@dataclass(frozen=True, slots=True)
class Source:
    """A file to read. name: as the project file has it; pool shared: its rows are divided by share."""

    name: str
    path: Path
    pool: Pool
    layout: Layout

    @property
    def bytes(self) -> int:
        """Size of the file."""
        return self.path.stat().st_size

    @property
    def is_packed(self) -> bool:
        """Whether the file is an archive, whose rows are larger than what is read for them."""
        return self.layout.compression != "none"


def locate_sources(
    root: Path, pools: Sequence[tuple[Pool, Sequence[str]]], *, max_chars: int, encoding: str
) -> list[Source]:
    """The sources in the order of the project file; relative paths start at `root`.

    Raises ConfigError for an unknown built-in name or a file named twice, ArtifactError for a missing or empty one.
    """
    found: list[Source] = []
    for pool, names in pools:
        for name in (one for pattern in names for one in _expanded(root, pattern)):
            path = _path(root, name)
            twice = next((source.name for source in found if source.path.resolve() == path.resolve()), None)
            if twice is not None:
                raise ConfigError(f"'{name}' and '{twice}' are the same file", where="data", fix="name it once")
            found.append(Source(name, path, pool, inspect(path, max_chars=max_chars, wanted=encoding)))
    return found


def _expanded(root: Path, pattern: str) -> list[str]:
    """The files of a pattern in the order of their names; a name without signs stands for itself."""
    if pattern.startswith("builtin:") or not any(sign in pattern for sign in "*?[") or (root / pattern).exists():
        return [pattern]
    start = Path(Path(pattern).anchor) if Path(pattern).is_absolute() else root
    parts = str(Path(pattern).relative_to(start) if Path(pattern).is_absolute() else pattern)
    found = sorted(path for path in start.glob(parts) if path.is_file())
    if not found:
        raise ArtifactError("no file matches this pattern", where=pattern, fix="check data.sources")
    return [path.as_posix() if Path(pattern).is_absolute() else path.relative_to(root).as_posix() for path in found]


def _path(root: Path, name: str) -> Path:
    if not name.startswith("builtin:"):
        return root / Path(name).expanduser()
    if name not in BUILTIN:
        raise ConfigError(f"there is no built-in data '{name}'", where="data", fix=f"known: {', '.join(BUILTIN)}")
    return Path(str(resources.files("tunewright.builtin_data") / BUILTIN[name]))
