"""Going through every row of a project until nothing more turns up that is the same row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tunewright.core.events import Progress
from tunewright.core.runs import Workspace
from tunewright.lineage.chain import Node
from tunewright.lineage.query import Query, normal
from tunewright.lineage.rows import Held, Key, SourceFile, Sources, rows_of_file, rows_of_source

FEWEST_CHARS = 12
"""A shorter turn, or excerpt, tells nobody's row from another's."""
_BEGINNING = 30
_MOST_CHARS = 4000
_MOST_TURNS = 2000


@dataclass(frozen=True)
class Hit:
    """A row found. place: the source's name, or the file inside the artifact `artifact` ('' for a source); why: `id`,
    `same messages`, `variant of ID`, or the places of the text such as `turn 2`."""

    artifact: str
    place: str
    line: int
    id: str
    why: tuple[str, ...]


@dataclass
class Targets:
    """What is known of the rows that are looked for. turns: what they say, normal and at most 4,000 characters of each,
    to find excerpts by."""

    keys: set[Key] = field(default_factory=set)
    digests: set[bytes] = field(default_factory=set)
    turns: set[str] = field(default_factory=set)

    def are_in(self, text: str) -> bool:
        """Whether a normal text has the beginning of a turn, or is an excerpt of one."""
        if len(text) < FEWEST_CHARS:
            return False
        return any(turn[:_BEGINNING] in text or text in turn for turn in self.turns)

    @property
    def size(self) -> int:
        """Grows until all is found."""
        return len(self.keys) + len(self.digests)


@dataclass(frozen=True)
class _Place:
    """Where rows lie: a source, or a JSONL file of an artifact."""

    artifact: str
    name: str
    path: Path
    node: Node | None
    source: SourceFile | None

    def rows(self) -> Iterator[Held]:
        return rows_of_file(self.path) if self.source is None else rows_of_source(self.source)


class Search:
    """The rows of all sources and data artifacts that are what `query` asks for.

    By id, a row is the one that the newest data artifact (else a source, else an older artifact) has under this id,
    wherever the same messages, or the same line of the same source, lie. By text, every row that says the text, and
    what was made of it, masked or not.
    """

    def __init__(
        self, workspace: Workspace, sources: Sequence[SourceFile], every: Sequence[Node], query: Query
    ) -> None:
        self.query, self.sources = query, Sources(workspace, sources)
        data = [node for node in reversed(every) if node.stage == "data"]
        finished = [node for node in data if node.manifest is not None]
        raw = [_Place("", source.name, source.path, None, source) for source in sources]
        files = {node.name: [_in_artifact(node, path) for path in jsonl_files(node.path)] for node in data}
        self._ranked = [  # where an id is looked up first; by text the order does not matter
            *(files[node.name] for node in finished[:1]),
            raw,
            *(files[node.name] for node in finished[1:]),
            *(files[node.name] for node in data if node.manifest is None),
        ]
        self.targets = Targets()
        self.kind: Literal["id", "text"] = "text"
        self.others: dict[str, str] = {}
        self.unreadable: dict[str, int] = {}
        self._is_read_first = False
        self._reasons: dict[tuple[Path, int, str], tuple[str, ...]] = {}

    def run(self) -> list[Hit]:
        """All hits. Passes over the rows are repeated until one adds nothing."""
        if self.query.may_be_id and self._seed_by_id():
            self.kind = "id"
        elif self.query.kind == "id":
            return []
        self._is_read_first = self.kind == "text"
        while True:
            size = self.targets.size
            hits = self._pass()
            self._is_read_first = False  # what says the text is known from the first pass
            if self.targets.size == size:
                return hits

    def _seed_by_id(self) -> bool:
        for places in self._ranked:
            for place in places:
                for row in place.rows():
                    if self._key(place, row.id)[1] == self.query.row_id:
                        self._learn(place, row)
            if self.targets.keys:
                return True
        return False

    def _pass(self) -> list[Hit]:
        found: list[Hit] = []
        self.unreadable.clear()
        places = [place for group in self._ranked for place in group]
        with Progress("looking (files)", len(places)) as progress:
            for place in places:
                for row in place.rows():
                    why = self._why(place, row)
                    if why:
                        self._learn(place, row)
                        first = self._reasons.setdefault((place.path, row.line, row.id), why)
                        found.append(Hit(place.artifact, place.name, row.line, row.id, first))
                progress.advance()
        return found

    def _why(self, place: _Place, row: Held) -> tuple[str, ...]:
        key = self._key(place, row.id)
        if row.value is None and row.read is not None and row.read.raw is None:
            self.unreadable[place.name] = self.unreadable.get(place.name, 0) + 1
        said = tuple(self.query.places(row.strings)) if self._is_read_first else ()
        if said:
            return said
        if (known := self._reasons.get((place.path, row.line, row.id))) is not None:
            return known
        if key in self.targets.keys:
            return ("id",)
        if row.parent and self._key(place, row.parent) in self.targets.keys:
            return (f"variant of {row.parent}",)
        if self._is_twin(place, row):
            return ("same messages",)
        if self.kind == "id" and key[1] == self.query.row_id:
            self.others[place.artifact or place.name] = row.id
        return ()

    def _is_twin(self, place: _Place, row: Held) -> bool:
        """A source says its texts in full: by text, its rows need no second look."""
        if not self.targets.digests or (self.kind == "text" and place.source is not None):
            return False
        return not self.targets.digests.isdisjoint(row.digests)

    def _key(self, place: _Place, row_id: str) -> Key:
        if place.source is not None:
            return place.source.sha256, row_id
        assert place.node is not None
        return self.sources.key(place.node, row_id)

    def _learn(self, place: _Place, row: Held) -> None:
        if row.id:
            self.targets.keys.add(self._key(place, row.id))
        self.targets.digests |= row.digests
        for where, text in row.strings:
            if where.startswith("turn") and len(text) >= FEWEST_CHARS and len(self.targets.turns) < _MOST_TURNS:
                self.targets.turns.add(normal(text[:_MOST_CHARS]))


def jsonl_files(folder: Path) -> list[Path]:
    """The row files of an artifact, and half-written ones of a stage that was killed; event logs hold no rows."""
    found = [path for path in folder.iterdir() if path.is_file() and ".jsonl" in path.name]
    return sorted(path for path in found if path.name != "events.jsonl")


def _in_artifact(node: Node, path: Path) -> _Place:
    return _Place(node.name, path.name, path, node, None)


def by_artifact(hits: Sequence[Hit]) -> Mapping[str, list[Hit]]:
    """The hits of each artifact; those of sources under ''."""
    found: dict[str, list[Hit]] = {}
    for hit in hits:
        found.setdefault(hit.artifact, []).append(hit)
    return found
