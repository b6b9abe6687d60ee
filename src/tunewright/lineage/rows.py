"""The rows that a project holds, wherever they lie, with what tells them apart: id, texts and digests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

import orjson

from tunewright.core import files
from tunewright.core.chat import Conversation, Message
from tunewright.core.erasures import raw_digest
from tunewright.core.runs import Workspace
from tunewright.data.draft import Draft
from tunewright.data.findings import Place, Rejection
from tunewright.data.formats.recognise import build, recognise
from tunewright.data.reading.quarantined import reopen
from tunewright.data.reading.strict_json import Parsed
from tunewright.data.sources import BUILTIN, Source
from tunewright.data.splits.assign import message_digest
from tunewright.lineage.chain import Node
from tunewright.lineage.query import row_id_of, strings_of, unescaped

Key = tuple[str, str]
"""What a row is, in whatever artifact: the hash of its source file and its id there."""


class ReadRow(Protocol):
    """A row as the reader gives it."""

    @property
    def id(self) -> str: ...
    @property
    def place(self) -> Place: ...
    @property
    def raw(self) -> str | None: ...
    @property
    def content(self) -> Parsed | Rejection: ...


@dataclass(frozen=True)
class SourceFile:
    """A raw file that the project reads. name: as ids have it; rows: reads it from the start."""

    name: str
    path: Path
    rows: Callable[[], Iterable[ReadRow]]

    @cached_property
    def sha256(self) -> str:
        """Of the file as it is now."""
        return files.sha256(self.path)


def source_files(sources: Sequence[Source], *, max_chars: int) -> list[SourceFile]:
    """The located sources, to be searched row by row. max_chars: longer rows are not searched."""
    return [SourceFile(source.name, source.path, _reader(source, max_chars)) for source in sources]


def _reader(source: Source, max_chars: int) -> Callable[[], Iterable[ReadRow]]:
    def rows() -> Iterator[ReadRow]:
        from tunewright.data.reading.records import parse_record, read_records

        records = read_records(source.path, source=source.name, layout=source.layout, max_chars=max_chars)
        yield from map(parse_record, records)

    return rows


@dataclass(frozen=True)
class Held:
    """A row somewhere. line: from 1 in the file that holds it; value: its document, None where it is none; raw: its
    text where the document does not say it all; parent: the row that a variant was made of; read: as a source has it.
    """

    id: str
    line: int
    value: Any
    raw: str | None = None
    parent: str = ""
    read: ReadRow | None = None

    @cached_property
    def strings(self) -> list[tuple[str, str]]:
        """(place, text) of all that it says, its id apart."""
        is_object = isinstance(self.value, Mapping)
        shown = {k: v for k, v in self.value.items() if k not in ("id", "raw")} if is_object else self.value
        found = strings_of(shown)
        if self.raw is not None:
            inner = _loaded(self.raw)
            found += [("text of the row", unescaped(self.raw))] if inner is None else strings_of(inner)
        return found

    @cached_property
    def digests(self) -> frozenset[bytes]:
        """What the erasure list would hold of it; empty for a line that is no row of data."""
        if self.read is not None:
            return _source_digests(self.id, self.read.content, self.read.raw)
        if isinstance(self.value, Mapping) and {"id", "conversation"} <= self.value.keys():
            turns = [Message.model_construct(**_typed(turn)) for turn in self.value["conversation"]]
            return frozenset([_digest(self.id, turns)])
        if self.raw is None or self.value is None:
            return frozenset()
        text, content = reopen(self.raw, line=1)
        return _source_digests(self.id, content, text)


def _source_digests(row_id: str, content: Parsed | Rejection, raw: str | None) -> frozenset[bytes]:
    """Of the messages before any rule; of the text where there are none."""
    found = recognise(content.value) if isinstance(content, Parsed) else content
    draft = found if isinstance(found, Rejection) else build(found)
    if isinstance(draft, Draft):
        return frozenset([_digest(row_id, draft.turns)])
    return frozenset() if raw is None else frozenset([raw_digest(raw)])


def _digest(row_id: str, turns: Sequence[Message]) -> bytes:
    """Without checking the turns again: a sealed row was checked when it was made."""
    return message_digest(Conversation.model_construct(id=row_id, messages=tuple(turns), metadata={}))


def _typed(turn: Mapping[str, Any]) -> dict[str, Any]:
    return {**turn, "content": turn.get("content"), "tool_calls": tuple(turn.get("tool_calls", ()))}


def _loaded(text: str | None) -> Any:
    try:
        return orjson.loads(text or "")
    except ValueError:  # also what only the standard library reads, such as integers beyond 64 bits
        return _loaded_slowly(text or "")


def _loaded_slowly(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def rows_of_source(source: SourceFile) -> Iterator[Held]:
    """Every row of a raw file, in its order."""
    for row in source.rows():
        value = row.content.value if isinstance(row.content, Parsed) else None
        yield Held(row.id, row.place.line, value, raw=row.raw if value is None else None, read=row)


def rows_of_file(path: Path) -> Iterator[Held]:
    """Every line of a JSONL file of an artifact; a cut last line is read as text."""
    with path.open("rb") as handle:
        for number, line in enumerate(handle, start=1):
            text = line.decode("utf-8", "replace")
            value = _loaded(text)
            if not isinstance(value, dict):
                yield Held("", number, None, raw=text)
                continue
            raw = value.get("raw")
            augmented = value.get("metadata", {}).get("augmented") if isinstance(value.get("metadata"), dict) else None
            parent = augmented.get("parent", "") if isinstance(augmented, dict) else ""
            yield Held(str(value.get("id", "")), number, value, raw if isinstance(raw, str) else None, str(parent))


class Sources:
    """Which file an id of an artifact means: the source as it was when the artifact was made."""

    def __init__(self, workspace: Workspace, sources: Sequence[SourceFile]) -> None:
        self._workspace = workspace
        self._paths = {source.name: source.path for source in sources}
        self._known: dict[tuple[str, str], str] = {}

    def key(self, node: Node, row_id: str) -> Key:
        """Equal for the same row of the same file in two artifacts; a row of unknown origin is its artifact's own."""
        name = row_id.rsplit("#" if "#" in row_id.rsplit(":", 1)[-1] else ":", 1)[0]
        if (node.name, name) not in self._known:
            place = self._relative(name)
            recorded = (reference.sha256 for reference in node.inputs if reference.path == place)
            self._known[node.name, name] = next(recorded, node.name)
        return self._known[node.name, name], row_id_of(row_id)

    def _relative(self, name: str) -> str:
        if name in self._paths:
            return self._workspace.relative(self._paths[name])
        if name in BUILTIN:
            return self._workspace.relative(Path(str(resources.files("tunewright.builtin_data") / BUILTIN[name])))
        return self._workspace.relative(self._workspace.root / Path(name).expanduser())
