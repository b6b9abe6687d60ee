"""`data find`: which sources, artifacts, caches and models hold a row or derive from it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.core.errors import ConfigError
from tunewright.core.runs import Workspace
from tunewright.lineage.chain import Node, influence, nodes, roots
from tunewright.lineage.query import Kind, Query, normal, row_id_of, visible
from tunewright.lineage.ratings import rating_stores
from tunewright.lineage.rows import Held, SourceFile, rows_of_file
from tunewright.lineage.scrub import scrubbed
from tunewright.lineage.search import Hit, Search, Targets, by_artifact, jsonl_files

_SHOWN = 20
_PAGES = (".json", ".html")
_PLANNED = ("manifest.json", "plan.json")
PURGED = "purged"
"""Key of a purged artifact's report and facts: ids, digests and counts of what was taken out."""
MASKED = (
    "text that a rule replaced (<PHONE>) is found only where its source, its pii_mapping.jsonl or its quarantine is "
    "still here unchanged"
)


@dataclass(frozen=True)
class Holder:
    """An artifact that holds a row or derives from it. splits: where a data artifact holds it; derives: what the row
    did to it; pages: other files of it that show text of the row."""

    stage: str
    path: str
    state: str
    hits: tuple[Hit, ...]
    splits: tuple[str, ...]
    derives: str
    pages: tuple[str, ...]

    def dump(self) -> dict[str, Any]:
        """For --json."""
        return {
            "stage": self.stage,
            "path": self.path,
            "state": self.state,
            "rows": [_row(hit) for hit in self.hits],
            "splits": list(self.splits),
            "derives": self.derives,
            "pages": list(self.pages),
        }


@dataclass(frozen=True)
class FindResult:
    """matched_by: whether the query was an id or a text; caches: token caches with the row; ratings: rating stores
    that show text of it; notes: what could not be looked into, and what an id means elsewhere. Texts of rows are not
    repeated here, ids and places are."""

    matched_by: str
    sources: tuple[Hit, ...]
    artifacts: tuple[Holder, ...]
    caches: tuple[str, ...]
    ratings: tuple[str, ...]
    notes: tuple[str, ...]
    targets: Targets

    @property
    def is_empty(self) -> bool:
        """Whether nothing holds such a row."""
        return not (self.sources or self.artifacts or self.caches or self.ratings)

    @property
    def models(self) -> list[Holder]:
        """Artifacts with weights that the row had a part in."""
        return [holder for holder in self.artifacts if holder.stage in ("train", "quantize") and holder.derives]

    def dump(self) -> dict[str, Any]:
        """For --json."""
        return {
            "matched_by": self.matched_by,
            "sources": [_row(hit) for hit in self.sources],
            "artifacts": [holder.dump() for holder in self.artifacts],
            "caches": list(self.caches),
            "ratings": list(self.ratings),
            "notes": list(self.notes),
        }

    def text(self) -> str:
        """For the screen."""
        if self.is_empty:
            return "\n".join(["nothing in this project holds such a row", *_noted(self.notes)])
        lines = [f"matched by {self.matched_by}"]
        lines += _listed("sources", list(self.sources))
        for holder in self.artifacts:
            lines.append(f"{holder.path} ({holder.state})" + (f": {holder.derives}" if holder.derives else ""))
            lines += [f"  {line}" for line in _lines(list(holder.hits))]
            lines += [f"  {page}: shows text of the row" for page in holder.pages]
        lines += [f"token cache {path}" for path in self.caches]
        lines += [f"rating store {path}: shows text of the row" for path in self.ratings]
        return "\n".join([*lines, *_noted(self.notes)])


def _row(hit: Hit) -> dict[str, Any]:
    return {"file": hit.place, "line": hit.line, "id": hit.id, "why": list(hit.why)}


def _listed(title: str, hits: list[Hit]) -> list[str]:
    return [title, *(f"  {line}" for line in _lines(hits))] if hits else []


def _lines(hits: list[Hit]) -> list[str]:
    shown = [f"{hit.place} line {hit.line}: {hit.id or 'no id'} ({', '.join(hit.why)})" for hit in hits[:_SHOWN]]
    return [*shown, f"and {len(hits) - _SHOWN} more rows"] if len(hits) > _SHOWN else shown


def _noted(notes: Sequence[str]) -> list[str]:
    return [f"note: {note}" for note in notes]


def find(workspace: Workspace, sources: Sequence[SourceFile], word: str, *, kind: Kind = "auto") -> FindResult:
    """Everything in the project that holds the row or derives from it. word: an id such as `raw/a.jsonl:3`, or a text;
    kind auto: an id where some row has it, else a text; a note says which, where it could have been either.

    Raises ConfigError for a text of fewer than two characters, and for an id that has not the form of one. Nothing is
    written.
    """
    every = nodes(workspace)
    query = Query(word, kind)
    if kind == "id" and not query.may_be_id:
        raise ConfigError(
            "this is no row id", where=repr(word), fix="ids look like raw/support.jsonl:17; or use --text"
        )
    search = Search(workspace, sources, every, query)
    hits = by_artifact(search.run())
    held = {name: _splits(found) for name, found in hits.items() if name}
    ids = {hit.id for found in hits.values() for hit in found if hit.id}
    holders = [_holder(search, every, node, hits, held) for node in every]
    kept = tuple(holder for holder in holders if holder.hits or holder.derives or holder.pages)
    asked = query if search.kind == "text" else None
    stores, closed = rating_stores(workspace, lambda text: shows(asked, search.targets, text))
    return FindResult(
        matched_by=search.kind,
        sources=tuple(hits.get("", ())),
        artifacts=kept,
        caches=tuple(workspace.relative(path) for path in [*_caches(workspace, ids), *_answers(workspace, bool(kept))]),
        ratings=tuple(workspace.relative(path) for path in stores),
        notes=(
            *_taken_as(search),
            *_notes(search, sources, every),
            *(f"{workspace.relative(path)} cannot be read and was not looked into" for path in closed),
        ),
        targets=search.targets,
    )


def _taken_as(search: Search) -> list[str]:
    """How a word that could be an id or a text was read."""
    query = search.query
    if query.kind != "auto" or not query.may_be_id:
        return []
    if search.kind == "id":
        return [f"'{query.word}' is the id of a row here and was taken as one; --text looks for it as a text"]
    return [f"no row has the id '{query.word}': it was looked for as a text"]


def _splits(hits: Sequence[Hit]) -> tuple[str, ...]:
    """Names of the files without ending, in the order of the stage."""
    names = {hit.place.removesuffix(".jsonl") for hit in hits}
    order = ("train", "validation", "test", "quarantine")
    return (*(name for name in order if name in names), *sorted(names - set(order)))


def _holder(
    search: Search,
    every: Sequence[Node],
    node: Node,
    hits: Mapping[str, list[Hit]],
    held: Mapping[str, tuple[str, ...]],
) -> Holder:
    made_from = [node] if node.stage == "data" else roots(every, node)
    ids = {hit.id for root in made_from for hit in hits.get(root.name, ()) if hit.id}
    pages = tuple(_pages(search, node, ids))
    if node.stage == "data":
        own = tuple(hits.get(node.name, ()))
        return Holder(node.stage, node.name, node.state, own, held.get(node.name, ()), "", pages)
    inside = [split for root in made_from for split in held.get(root.name, ())]
    derives = influence(node.stage, inside) if inside else ""
    return Holder(node.stage, node.name, node.state, tuple(_in_stage(search, node, made_from)), (), derives, pages)


def _in_stage(search: Search, node: Node, made_from: Sequence[Node]) -> list[Hit]:
    """Rows of later stages, such as the samples of `evaluate`: by the id they had in the data artifact, or by text."""
    found = []
    for path in jsonl_files(node.path):
        for row in rows_of_file(path):
            why = _why(search, row, made_from)
            if why:
                found.append(Hit(node.name, path.name, row.line, row.id, why))
    return found


def _why(search: Search, row: Held, made_from: Sequence[Node]) -> tuple[str, ...]:
    if row.id and any(search.sources.key(root, row.id) in search.targets.keys for root in made_from):
        return ("id",)
    return tuple(search.query.places(row.strings)) if search.kind == "text" else ()


def _pages(search: Search, node: Node, ids: Collection[str]) -> list[str]:
    """Reports that show the text, or an excerpt of a row that was found."""
    query = search.query if search.kind == "text" else None
    found = []
    for path in sorted(node.path.iterdir()):
        if path.suffix in _PAGES and path.is_file() and path.name not in _PLANNED:
            text = path.read_text(encoding="utf-8", errors="replace")
            document = _document(path, text)
            if document is None:
                is_shown = shows(query, search.targets, visible(text))
            else:
                is_shown = cleaned(document, ids, query, search.targets) != document
            found += [path.name] if is_shown else []
    return found


def _document(path: Path, text: str) -> Any:
    """Of a JSON file, without the record of an earlier purge, which has ids only."""
    try:
        document = json.loads(text) if path.suffix == ".json" else None
    except ValueError:
        return None
    return {k: v for k, v in document.items() if k != PURGED} if isinstance(document, dict) else document


def cleaned(value: Any, ids: Collection[str], query: Query | None, targets: Targets) -> Any:
    """A JSON document without what it says of the rows that were found. ids: of these rows."""
    places = {place for row_id in ids if (place := _place(row_id))}
    return scrubbed(value, ids=ids, places=places, shows=lambda text: shows(query, targets, text))


def _place(row_id: str) -> tuple[str, int] | None:
    name, _, number = row_id_of(row_id).rpartition(":")
    return (name, int(number)) if number.isdigit() else None


def shows(query: Query | None, targets: Targets, text: str) -> bool:
    """Whether a text holds what was asked for, or a piece of a turn of a row that was found."""
    return bool(query and query.is_in(text)) or targets.are_in(normal(text))


def _caches(workspace: Workspace, ids: set[str]) -> list[Path]:
    """Token caches whose rows have one of the ids; they are made anew when they are missing."""
    import numpy as np

    folder = workspace.root / "runs" / workspace.project / ".cache" / "tokens"
    found = []
    for path in sorted(folder.glob("*.npz")) if ids and folder.is_dir() else []:
        try:
            with np.load(path, allow_pickle=False) as stored:
                names = set(json.loads(stored["names"].tobytes()))
        except (OSError, ValueError, KeyError, EOFError):
            names = set(ids)  # what cannot be read may hold the row
        if not names.isdisjoint(ids):
            found.append(path)
    return found


def _answers(workspace: Workspace, is_known: bool) -> list[Path]:
    """Every file of stored answers once some artifact holds the row: a model may have said it in answer to any other.
    They are made anew when they are missing."""
    folder = workspace.root / "runs" / workspace.project / ".cache" / "answers"
    return sorted(folder.glob("*.jsonl")) if is_known else []


def _notes(search: Search, sources: Sequence[SourceFile], every: Sequence[Node]) -> list[str]:
    notes = [
        f"{place}: the id {row_id} is another row there; look for its text to find it"
        for place, row_id in sorted(search.others.items())
    ]
    notes += [
        f"{name}: {count} row(s) that cannot be read, or are over data.max_chars, were not looked into"
        for name, count in sorted(search.unreadable.items())
    ]
    newest = next((node for node in reversed(every) if node.stage == "data" and node.manifest is not None), None)
    recorded = {reference.sha256 for reference in newest.inputs} if newest else set()
    notes += [
        f"{source.name} is not the file that {newest.name} was made from: rows are linked by their messages only"
        for source in sources
        if newest and source.sha256 not in recorded
    ]
    return [*notes, MASKED] if search.kind == "text" else notes
