"""`init`: a project folder that validates and runs, with a few rows to be replaced."""

from __future__ import annotations

import difflib
from pathlib import Path

from tunewright.core import files
from tunewright.core.errors import ConfigError, ResourceError

KINDS = ("finance", "education", "medical", "blank")
_TEMPLATES = Path(__file__).with_name("init_templates")


def create(kind: str, target: Path) -> list[Path]:
    """Writes the template `kind` into `target` and returns the files, the project file last.

    Raises ConfigError for an unknown kind and where `target` holds anything: nothing is ever overwritten.
    """
    if kind not in KINDS:
        close = difflib.get_close_matches(kind, KINDS, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(KINDS)}"
        raise ConfigError(f"there is no template '{kind}'", fix=hint)
    _refuse_occupied(target)
    source = _TEMPLATES / kind
    names = sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file())
    written = []
    for name in sorted(names, key=lambda name: (name == Path("project.yaml"), name)):
        place = target / name
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            files.write_text(place, (source / name).read_text(encoding="utf-8"))
        except PermissionError:
            raise ResourceError(
                "this folder may not be written", where=str(place.parent), fix="choose another"
            ) from None
        written.append(place)
    return written


def _refuse_occupied(target: Path) -> None:
    if target.is_dir():
        inside = next(iter(sorted(target.iterdir())), None)
        if inside is None:
            return
        problem = f"the folder is not empty (it holds {inside.name}); nothing was written"
    elif target.exists() or target.is_symlink():
        problem = "this is a file, not a folder; nothing was written"
    else:
        return
    raise ConfigError(problem, where=str(target), fix="give the path of a new or empty folder")
