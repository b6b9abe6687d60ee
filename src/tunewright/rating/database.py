"""The SQLite file of a store: opening, checking and creating it so that no saved vote is ever lost."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tunewright.core import files
from tunewright.core.errors import ArtifactError, ResourceError

APPLICATION_ID = 0x74775261  # "twRa"
VERSION = 1
BUSY_S = 10.0
SCHEMA = Path(__file__).with_name("schema.sql")


class Database:
    """One connection for all threads of a process. A transaction is on disk when it returns: the write-ahead log is
    synced on every commit (synchronous=FULL), so a killed process or a power cut loses no vote."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it or nothing. Raises ResourceError when the disk is full or another process holds the file."""
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                except BaseException:
                    self._connection.rollback()
                    raise
                self._connection.execute("COMMIT")
            except sqlite3.OperationalError as error:
                if self._connection.in_transaction:
                    self._connection.rollback()
                raise ResourceError(
                    f"the votes cannot be written: {error}",
                    where=str(self.path),
                    fix="free space on the disk, try again",
                ) from None

    def rows(self, query: str, *values: Any) -> list[Any]:
        """What a query finds."""
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    def close(self) -> None:
        """Folds the log into the file."""
        with self._lock:
            self._connection.close()


def is_begun(path: Path) -> bool:
    """Whether something is there already; a file that a kill left empty is nothing yet."""
    if not path.exists() or path.stat().st_size == 0:
        return False
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection:
            return bool(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
    except sqlite3.DatabaseError:
        return True


def create(path: Path, fill: Callable[[sqlite3.Connection], None]) -> Database:
    """A new file with the tables and what `fill` puts in, in one transaction. Only its owner may read it, since it
    holds the answers and the raters' secret."""
    with files.disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
    database = Database(path)
    _configure(database)
    with database.transaction() as connection:
        for statement in filter(str.strip, SCHEMA.read_text(encoding="utf-8").split(";\n")):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={VERSION}")
        fill(connection)
    return database


def open_existing(path: Path) -> Database:
    """Raises ArtifactError when `path` is missing, no store, damaged, or of another version."""
    if not path.is_file():
        raise ArtifactError("there are no ratings here", where=str(path), fix="start the page first: `tunewright rate`")
    database = Database(path)
    try:
        kind, version = (database.rows(f"PRAGMA {name}")[0][0] for name in ("application_id", "user_version"))
        sound = kind == APPLICATION_ID and database.rows("PRAGMA quick_check")[0][0] == "ok"
    except sqlite3.DatabaseError:
        sound, version = False, 0
    if not sound:
        database.close()
        raise ArtifactError("this file holds no ratings, or it is damaged", where=str(path), fix="name another store")
    if version != VERSION:
        database.close()
        raise ArtifactError(
            f"the store has version {version}, this program reads {VERSION}", where=str(path), fix="use its own version"
        )
    _configure(database)
    return database


def _configure(database: Database) -> None:
    database.rows("PRAGMA foreign_keys=ON")
    mode = database.rows("PRAGMA journal_mode=WAL")[0][0]
    database.rows("PRAGMA synchronous=FULL")
    if mode != "wal":
        raise ResourceError(
            "the store needs a write-ahead log, which this file system does not offer",
            where=str(database.path),
            fix="put the store on a local disk",
        )
