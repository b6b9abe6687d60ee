"""Votes on disk: who rates what next, what was said, what was taken back. Nothing is ever overwritten."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import random
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Connection
from typing import Any

from tunewright.core.errors import ConfigError
from tunewright.rating import database, forms
from tunewright.rating.config import DESIGN, RateConfig
from tunewright.rating.database import Database
from tunewright.rating.design import Design, Task
from tunewright.rating.study import SKIPPED, Item, Judgement, Pool, Source, Vote

_VOTES = """
SELECT vote.number, rater.name, task.item, item.document, vote.position, task.repeat_of, task.left, task.right,
       vote.judgement, vote.cast_at
FROM vote JOIN rater ON rater.number = vote.rater
JOIN task ON task.rater = vote.rater AND task.position = vote.position
JOIN item ON item.number = task.item
WHERE vote.withdrawn_at IS NULL ORDER BY vote.number
"""


@dataclass(frozen=True)
class Rater:
    """A rater of this store. number: from 0, in the order of joining."""

    number: int
    name: str


@dataclass(frozen=True)
class Progress:
    """How far a rater is."""

    done: int
    total: int
    skipped: int = 0


class Store:
    """One study in one file. Safe for threads; several processes may open it."""

    def __init__(self, opened: Database) -> None:
        self._database = opened
        self.path = opened.path
        self._values = {key: json.loads(value) for key, value in opened.rows("SELECT key, value FROM study")}
        self.settings: dict[str, Any] = self._values["settings"]
        self.systems: tuple[str, ...] = tuple(self._values["systems"])
        self.sources = tuple(Source.model_validate(source) for source in self._values["sources"])
        self.items = tuple(
            Item.model_validate_json(row[0]) for row in opened.rows("SELECT document FROM item ORDER BY number")
        )

    @classmethod
    def create(cls, path: Path, pool: Pool, config: RateConfig) -> Store:
        """A new store of the pool, or of a random sample of it."""
        settings = {name: getattr(config, name) for name in DESIGN}
        items = sampled(pool, config)
        values = {
            "settings": settings,
            "systems": pool.systems,
            "sources": [source.model_dump() for source in pool.sources],
            "fingerprint": fingerprint(pool),
            "secret": secrets.token_hex(32),
            "raters": [],
        }

        def fill(connection: Connection) -> None:
            rows = [(number, item.model_dump_json()) for number, item in enumerate(items)]
            connection.executemany("INSERT INTO item VALUES (?, ?)", rows)
            connection.executemany("INSERT INTO study VALUES (?, ?)", [(k, json.dumps(v)) for k, v in values.items()])

        return cls(database.create(path, fill))

    @classmethod
    def open(cls, path: Path) -> Store:
        """An existing store; raises ArtifactError when there is none."""
        return cls(database.open_existing(path))

    def require(self, config: RateConfig, pool: Pool | None) -> None:
        """Raises ConfigError when `config` says otherwise than this store, or `pool` holds other answers."""
        for name in DESIGN:
            given = getattr(config, name)
            if name in config.model_fields_set and given != self.settings[name]:
                raise ConfigError(
                    f"these ratings were begun with rate.{name}={self.settings[name]}, not {given}",
                    where=str(self.path),
                    fix="leave the option out, or begin another store: add NAME.sqlite",
                )
        if pool is not None and fingerprint(pool) != self._values["fingerprint"]:
            raise ConfigError(
                "this store holds ratings of other answers",
                where=str(self.path),
                fix="begin another store: add NAME.sqlite; or go on with this one alone: tunewright rate STORE.sqlite",
            )

    @property
    def fingerprint(self) -> str:
        """Of systems, prompts and answers: the lineage of every vote."""
        return str(self._values["fingerprint"])

    @property
    def secret(self) -> str:
        """Signs tokens, cookies and forms."""
        return str(self._values["secret"])

    @property
    def named(self) -> tuple[str, ...]:
        """Names that may rate, each with a token; empty: anyone by name."""
        found = self._database.rows("SELECT value FROM study WHERE key = 'raters'")[0][0]
        return tuple(json.loads(found))

    def name_raters(self, names: tuple[str, ...]) -> None:
        """Lets exactly these rate from now on. The votes of others stay."""
        with self._database.transaction() as connection:
            connection.execute("UPDATE study SET value = ? WHERE key = 'raters'", [json.dumps(names)])

    def join(self, name: str) -> Rater:
        """The rater of this name, with an order of their own from the first time on. Names differ beyond case."""
        key, query = name.casefold(), "SELECT number, name FROM rater WHERE key = ?"
        if found := self._database.rows(query, key):
            return Rater(*found[0])
        with self._database.transaction() as connection:
            if joined := connection.execute(query, [key]).fetchone():  # another thread was quicker
                return Rater(*joined)
            number = connection.execute("SELECT count(*) FROM rater").fetchone()[0]
            connection.execute("INSERT INTO rater VALUES (?, ?, ?, ?)", [number, name, key, _now()])
            tasks = self._design().tasks(number)
            rows = [
                (number, place, task.item, task.left, task.right, task.repeat_of) for place, task in enumerate(tasks)
            ]
            connection.executemany("INSERT INTO task VALUES (?, ?, ?, ?, ?, ?)", rows)
        return Rater(number, name)

    def _design(self) -> Design:
        chosen = self.settings
        return Design(self.systems, len(self.items), chosen["seed"], chosen["repeats"], chosen["pairs_per_item"])

    def raters(self) -> list[Rater]:
        """All who joined, in order."""
        return [Rater(*row) for row in self._database.rows("SELECT number, name FROM rater ORDER BY number")]

    def next_position(self, rater: Rater) -> int | None:
        """The first task without a vote; None when all have one."""
        query = """SELECT min(position) FROM task WHERE rater = ? AND NOT EXISTS (SELECT 1 FROM vote
                   WHERE vote.rater = task.rater AND vote.position = task.position AND withdrawn_at IS NULL)"""
        found = self._database.rows(query, rater.number)[0][0]
        return None if found is None else int(found)

    def task(self, rater: Rater, position: int) -> Task | None:
        """The task at a position of the rater's order, if there is one."""
        query = "SELECT item, left, right, repeat_of FROM task WHERE rater = ? AND position = ?"
        found = self._database.rows(query, rater.number, position)
        return Task(*found[0]) if found else None

    def cast(self, rater: Rater, position: int, judgement: Judgement) -> None:
        """Saves a vote; on disk when this returns. A vote for the same task before it is withdrawn, not deleted."""
        with self._database.transaction() as connection:
            where = [_now(), rater.number, position]
            connection.execute(
                "UPDATE vote SET withdrawn_at = ? WHERE rater = ? AND position = ? AND withdrawn_at IS NULL", where
            )
            connection.execute(
                "INSERT INTO vote (rater, position, judgement, cast_at) VALUES (?, ?, ?, ?)",
                [rater.number, position, json.dumps(dataclasses.asdict(judgement), ensure_ascii=False), _now()],
            )
            connection.execute("DELETE FROM draft WHERE rater = ? AND position = ?", where[1:])

    def undo(self, rater: Rater) -> int | None:
        """Withdraws the rater's last vote, puts what it said into the draft, and returns its position; None when there
        is no vote."""
        with self._database.transaction() as connection:
            query = """SELECT number, position, judgement FROM vote WHERE rater = ? AND withdrawn_at IS NULL
                       ORDER BY number DESC LIMIT 1"""
            found = connection.execute(query, [rater.number]).fetchone()
            if found is None:
                return None
            number, position, said = found
            connection.execute("UPDATE vote SET withdrawn_at = ? WHERE number = ?", [_now(), number])
            form = json.dumps(forms.as_form(Judgement(**json.loads(said))), ensure_ascii=False)
            connection.execute("INSERT OR REPLACE INTO draft VALUES (?, ?, ?)", [rater.number, position, form])
        return int(position)

    def save_draft(self, rater: Rater, position: int, form: Mapping[str, str]) -> None:
        """Keeps a half-filled form, so that a reload or a crash loses nothing."""
        with self._database.transaction() as connection:
            text = json.dumps(dict(form), ensure_ascii=False)
            connection.execute("INSERT OR REPLACE INTO draft VALUES (?, ?, ?)", [rater.number, position, text])

    def draft(self, rater: Rater, position: int) -> dict[str, str]:
        """The half-filled form of a task, if there is one."""
        query = "SELECT form FROM draft WHERE rater = ? AND position = ?"
        found = self._database.rows(query, rater.number, position)
        return dict(json.loads(found[0][0])) if found else {}

    def progress(self, rater: Rater) -> Progress:
        """Done, skipped among them, and all tasks of a rater."""
        total = self._database.rows("SELECT count(*) FROM task WHERE rater = ?", rater.number)[0][0]
        query = "SELECT judgement FROM vote WHERE rater = ? AND withdrawn_at IS NULL"
        cast = [json.loads(row[0])["preference"] for row in self._database.rows(query, rater.number)]
        return Progress(len(cast), total, cast.count(SKIPPED))

    def votes(self) -> list[Vote]:
        """All votes that stand, in the order they were cast."""
        found = []
        for number, name, item, document, place, repeat, left, right, said, cast in self._database.rows(_VOTES):
            about = (number, name, item, json.loads(document)["id"], place, repeat, left, right)
            found.append(Vote(*about, Judgement(**json.loads(said)), cast))
        return found

    def close(self) -> None:
        """Closes the file."""
        self._database.close()


def sampled(pool: Pool, config: RateConfig) -> tuple[Item, ...]:
    """The items to rate, in the pool's order."""
    if config.max_items is None or config.max_items >= len(pool.items):
        return pool.items
    drawn = random.Random(f"{config.seed}/items").sample(range(len(pool.items)), config.max_items)  # noqa: S311
    return tuple(pool.items[index] for index in sorted(drawn))


def fingerprint(pool: Pool) -> str:
    """SHA-256 of systems, prompts and answers; where the files lie does not matter."""
    shown = [[item.id, [t.model_dump() for t in item.turns], item.answers] for item in pool.items]
    text = json.dumps([pool.systems, shown], ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
