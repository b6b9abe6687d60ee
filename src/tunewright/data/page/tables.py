"""What the page is made of: tables of cells, and how values are written in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.data.show import visible

LONGEST = 240
"""Characters of a text in a cell."""
_SLIM = 4
"""Columns."""
MOST_ROWS = 60
"""Rows of a table; further ones are counted, not shown, so that a page stays a page."""


@dataclass(frozen=True, slots=True)
class Cell:
    """text: as it is written; kind: classes such as `n` for numbers; sub: a second line; excerpt: text of a row."""

    text: str
    kind: str = ""
    sub: str = ""
    excerpt: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """columns: (title, class); the first cell of a row names it; total: a last row that stands apart."""

    caption: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Cell, ...], ...]
    total: tuple[Cell, ...] = ()
    left_out: int = 0

    @property
    def kind(self) -> str:
        """`stack`: on a phone each row becomes a block of its own; `slim`: short cells need no full width."""
        if any(cell.kind == "text" for row in self.rows for cell in row):
            return "stack"
        return "slim" if len(self.columns) <= _SLIM else ""

    @property
    def is_titled(self) -> bool:
        """Names and values need no titles."""
        return any(title for title, _ in self.columns)


def table(caption: str, titles: Sequence[str], rows: Iterable[Sequence[Cell]], *, total: Sequence[Cell] = ()) -> Table:
    """A table whose columns are right-aligned where the first row's cells are numbers."""
    listed = [tuple(row) for row in rows]
    kinds = [cell.kind if cell.kind == "n" else "" for cell in listed[0]] if listed else [""] * len(titles)
    columns = tuple(zip(titles, kinds, strict=True))
    return Table(caption, columns, tuple(listed[:MOST_ROWS]), tuple(total), max(0, len(listed) - MOST_ROWS))


def words(name: str) -> str:
    """`prompt_tokens_cut` -> `prompt tokens cut`."""
    return readable(name.replace("_", " "))


def readable(text: Any, limit: int = LONGEST) -> str:
    """`text` without characters that steer a page; a longer one is cut, and the cut is said."""
    whole = str(text)
    cut = f" … ({len(whole) - limit:,} more characters)" if len(whole) > limit else ""
    return visible(whole[:limit]) + cut


def value(found: Any) -> Cell:
    """A value as it stands in a table."""
    if found is None:
        return Cell("–", "n")
    if isinstance(found, bool):
        return Cell("yes" if found else "no")
    if isinstance(found, int):
        return Cell(f"{found:,}", "n")
    if isinstance(found, float):
        return Cell(f"{found:,.4f}".rstrip("0").rstrip("."), "n")
    if isinstance(found, list | tuple):
        return Cell(readable(", ".join(value(item).text for item in found) or "none"))
    if isinstance(found, Mapping):
        return Cell(readable(", ".join(f"{key}: {value(item).text}" for key, item in found.items()) or "none"))
    return Cell(readable(found))


def share(part: int, whole: int) -> str:
    """'12.5 %'; empty where there is nothing to share."""
    return f"{part / whole:.1%}".replace("%", " %") if whole else ""


def facts(caption: str, found: Mapping[str, Any]) -> Table | None:
    """A table of names and values, in their order."""
    rows = [(Cell(words(name)), _right(value(item))) for name, item in found.items()]
    return table(caption, ("", ""), rows) if rows else None


def _right(cell: Cell) -> Cell:
    """Words beside numbers stand on the right too, so that the column has one edge."""
    return Cell(cell.text, "n" if len(cell.text) < 40 else "")


def any_tables(found: Any, name: str = "") -> list[Table]:
    """Tables of a part of the report whose keys another room decides: plain values together, then one table for each
    mapping of mappings (rows by columns) or list of mappings. name: the caption."""
    if not isinstance(found, Mapping):
        return [_records(name, found)] if _is_records(found) else []
    nested = {key: item for key, item in found.items() if _is_grid(item) or _is_records(item)}
    inner = {key: item for key, item in found.items() if isinstance(item, Mapping) and key not in nested}
    plain = {key: item for key, item in found.items() if key not in nested and key not in inner}
    tables = [facts(name, plain)]
    alike = {
        key: item for key, item in inner.items() if any(_alike(item, inner[other]) for other in inner if other != key)
    }
    if alike and _is_grid(alike):
        tables.append(_grid(name, alike))
        inner = {key: item for key, item in inner.items() if key not in alike}
    for key, item in nested.items():
        title = _below(name, key)
        tables.append(_grid(title, item) if isinstance(item, Mapping) else _records(title, item))
    for key, item in inner.items():
        tables += any_tables(item, _below(name, key))
    return [found for found in tables if found is not None]


def _alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Two parts with the same keys are two rows of one table."""
    return one.keys() == other.keys()


def _below(name: str, key: str) -> str:
    return f"{name}: {words(key)}" if name else words(key)[:1].upper() + words(key)[1:]


def _is_grid(found: Any) -> bool:
    """A mapping of mappings of plain values, such as a confusion matrix."""
    if not (isinstance(found, Mapping) and found and all(isinstance(item, Mapping) for item in found.values())):
        return False
    return not any(isinstance(cell, Mapping | list) for item in found.values() for cell in item.values())


def _is_records(found: Any) -> bool:
    return isinstance(found, list) and bool(found) and all(isinstance(item, Mapping) for item in found)


def _grid(title: str, found: Mapping[str, Mapping[str, Any]]) -> Table:
    names = list(dict.fromkeys(key for item in found.values() for key in item))
    rows = [(Cell(words(key)), *(value(item.get(name)) for name in names)) for key, item in found.items()]
    return table(title, ["", *map(words, names)], rows)


def _records(title: str, found: Sequence[Mapping[str, Any]]) -> Table:
    names = list(dict.fromkeys(key for item in found for key in item))
    return table(title, [*map(words, names)], [[value(item.get(name)) for name in names] for item in found])


@dataclass(frozen=True)
class Section:
    """A part of the page: sentences, then figures (SVG text that is already escaped), then tables."""

    id: str
    title: str
    lead: tuple[str, ...] = ()
    warning: str = ""
    figures: tuple[Callable[[int], str], ...] = ()
    tables: tuple[Table, ...] = ()
