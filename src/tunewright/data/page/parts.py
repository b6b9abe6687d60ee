"""The sections that a report has only where a rule or a setting asks for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tunewright.data.page.tables import Cell, Section, Table, any_tables, readable, share, table, value, words

KINDS = {
    "exact": "asks the question of a training row",
    "near": "nearly a training row",
    "overlap": "shares a long passage with a training row",
    "groups": "has the group of a training row",
}
_COUNTS = ("read", "kept", "repaired", "quarantined", "filtered", "duplicates", "quarantined_share")
_PARTS = ("by_code", "sources", "splits", "samples", "left_out", "tokens", "leakage", "near_duplicates", "tallies")
SHOWN_ELSEWHERE = frozenset((*_COUNTS, *_PARTS, "annotation", "augment"))
_TALLIES = {
    "domain": "Relevance to the domain",
    "forged_turns": "Turns that play other turns",
    "language": "Language of the rows",
    "pii": "Personal data that was masked",
    "secrets": "Secrets that were masked",
}
_EXAMPLES = 12


def leakage_section(report: Mapping[str, Any]) -> Section | None:
    """What the other splits and external sets share with training; 0 is right."""
    leakage = report.get("leakage") or {}
    sets = leakage.get("sets", leakage)
    by_name = {name: found for name, found in sets.items() if isinstance(found, Mapping)}
    if not by_name:
        plain = [(Cell(words(name)), value(count)) for name, count in leakage.items()]
        flat = (table("Rows that training has seen", ("kind", "rows"), plain),) if plain else ()
        return Section("leakage", "Leakage from training", ("0 is right.",), tables=flat) if flat else None
    kinds = [kind for kind in KINDS if any(kind in found for found in by_name.values())]
    rows = [
        (Cell(readable(name)), value(found.get("rows")), *(value(_count(found.get(kind))) for kind in kinds))
        for name, found in by_name.items()
    ]
    counted = table("Rows that training has seen, by kind", ("set", "rows", *kinds), rows)
    meaning = "; ".join(f"{kind}: {KINDS[kind]}" for kind in kinds)
    lead = (f"0 is right. Kinds are counted apart. {meaning[:1].upper()}{meaning[1:]}.",)
    return Section("leakage", "Leakage from training", lead, tables=(counted, *_leakage_examples(by_name)))


def _count(found: Any) -> Any:
    return found.get("rows") if isinstance(found, Mapping) else found


def _leakage_examples(by_name: Mapping[str, Mapping[str, Any]]) -> Iterator[Table]:
    rows = [
        (
            Cell(words(str(kind)), sub=readable(name)),
            Cell(readable(one.get("id", "")), "text", excerpt=readable(one.get("excerpt", ""))),
            Cell(readable(one.get("train_id", "")), "text", _why(one), readable(one.get("train_excerpt", ""))),
        )
        for name, found in by_name.items()
        for kind, one in _examples_of(found)
    ]
    if rows:
        yield table("Examples", ("kind", "row", "training row"), rows[:_EXAMPLES])


def _why(one: Mapping[str, Any]) -> str:
    """What the two rows of an example share."""
    if "jaccard" in one:
        return f"Jaccard {one['jaccard']:.2f}"
    return readable("; ".join(f"{name}: {one[name]}" for name in ("shared", "group") if one.get(name)))


def _examples_of(found: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for one in found.get("examples") or ():
        yield str(one.get("kind", "")), one
    for kind in KINDS:
        inner = found.get(kind)
        if isinstance(inner, Mapping):
            yield from ((kind, one) for one in inner.get("examples") or ())


def near_section(report: Mapping[str, Any]) -> Section | None:
    """Clusters of near duplicates, the largest shown."""
    near = report.get("near_duplicates")
    if not near:
        return None
    tables = any_tables({name: item for name, item in near.items() if name != "largest"})
    clusters = [_cluster(one) for one in near.get("largest") or ()]
    if clusters:
        tables.append(table("The largest clusters", ("first row", "another row", "rows"), clusters))
    return Section("near-duplicates", "Near duplicates", tables=tuple(tables))


def _cluster(one: Mapping[str, Any]) -> tuple[Cell, ...]:
    ids = [str(name) for name in one.get("ids") or (one.get("first", ""), one.get("second", ""))]
    first = readable(one.get("first_excerpt", one.get("excerpt", "")))
    others = ", ".join(ids[1:4]) + (f" and {len(ids) - 4:,} more" if len(ids) > 4 else "")
    near = f"Jaccard {one['jaccard']:.2f}" if "jaccard" in one else ""
    return (
        Cell(readable(ids[0] if ids else ""), "text", excerpt=first),
        Cell(readable(others), "text", near, readable(one.get("second_excerpt", ""))),
        value(one.get("size", one.get("rows"))),
    )


def tallies_section(report: Mapping[str, Any]) -> Section | None:
    """Numbers that rules counted over all rows, one table for each first word: `pii.phone`, `domain.rows`."""
    groups: dict[str, dict[str, int]] = {}
    for name, count in sorted((report.get("tallies") or {}).items()):
        group, _, rest = name.partition(".")
        groups.setdefault(group, {})[rest or name] = count
    tables = [_tally(name, counts) for name, counts in groups.items()]
    return Section("tallies", "Counted by rules", tables=tuple(tables)) if tables else None


def _tally(name: str, counts: Mapping[str, int]) -> Table:
    """Rows are shown with their share: of all rows that the rule `domain` looked at, of all rows by language."""
    title = _TALLIES.get(name, words(name).capitalize())
    whole = counts.get("rows", 0) if name == "domain" else sum(counts.values()) if name == "language" else 0
    found = [
        (Cell(words(part).replace(".", " ")), value(count), *_share(count, whole)) for part, count in counts.items()
    ]
    return table(title, ("", "rows", "share") if whole else ("", ""), found)


def _share(count: int, whole: int) -> tuple[Cell, ...]:
    return (Cell(share(count, whole), "n"),) if whole else ()


def other_sections(report: Mapping[str, Any]) -> Iterator[Section]:
    """Annotation, augmentation, and whatever else the report holds: nothing of it stays unseen."""
    named = {"annotation": "Agreement of the annotators", "augment": "Augmentation of the training split"}
    rest = [name for name in report if name not in SHOWN_ELSEWHERE]
    for name in (*named, *rest):
        tables = any_tables(_wrapped(name, report.get(name)))
        if tables:
            yield Section(_anchor(name), named.get(name, words(name).capitalize()), tables=tuple(tables))


def _wrapped(name: str, found: Any) -> Any:
    if found is None or isinstance(found, Mapping | list):
        return found
    return {name: found}


def _anchor(name: str) -> str:
    return "part-" + "".join(letter if letter.isalnum() else "-" for letter in name)


def present(sections: Sequence[Section | None]) -> list[Section]:
    """Those that the report has."""
    return [section for section in sections if section is not None]
