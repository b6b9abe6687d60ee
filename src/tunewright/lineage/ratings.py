"""Stores of `rate`: SQLite files with questions, answers and what people said of them, looked through as they are."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from tunewright.core.runs import Workspace
from tunewright.lineage.query import strings_of

FOLDER = "rating"


def rating_stores(workspace: Workspace, shows: Callable[[str], bool]) -> tuple[list[Path], list[Path]]:
    """(stores that hold a text of which `shows` is true, stores that cannot be read). Nothing is written."""
    held, unreadable = [], []
    for path in sorted(workspace.stage_directory(FOLDER).glob("*.sqlite")):
        try:
            held += [path] if any(map(shows, _texts(path))) else []
        except sqlite3.DatabaseError:
            unreadable.append(path)
    return held, unreadable


def _texts(path: Path) -> Iterator[str]:
    """Every text of every table; those inside JSON one by one."""
    is_open = path.with_name(f"{path.name}-wal").exists()
    how = "mode=ro" if is_open else "immutable=1"  # reading a closed store without it leaves a log beside the file
    with closing(sqlite3.connect(f"file:{quote(str(path))}?{how}", uri=True)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for name in names:
            quoted = name.replace('"', '""')
            for row in connection.execute(f'SELECT * FROM "{quoted}"'):  # noqa: S608 (a name of the file's own)
                for value in row:
                    if isinstance(value, str):
                        yield from _inside(value)


def _inside(value: str) -> list[str]:
    try:
        return [text for _, text in strings_of(json.loads(value))]
    except ValueError:
        return [value]
