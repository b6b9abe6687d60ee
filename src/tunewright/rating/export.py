"""Votes as files: every vote as it is, corrections as training rows, votes and corrections as preference pairs."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.rating.study import DIMENSIONS, SIDES, Item, Side, Source, Vote

KINDS = ("votes", "rows", "preferences")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Study:
    """What lineage needs of the store."""

    items: Sequence[Item]
    sources: Sequence[Source]
    fingerprint: str


def votes(cast: Iterable[Vote]) -> list[dict[str, Any]]:
    """One flat row a vote, repeats and skipped tasks among them."""
    return [_vote(vote) for vote in cast]


def _vote(vote: Vote) -> dict[str, Any]:
    said = vote.judgement
    row: dict[str, Any] = {
        "vote": vote.number,
        "rater": vote.rater,
        "item": vote.item_id,
        "position": vote.position,
        "repeat_of": vote.repeat_of,
        "left": vote.left,
        "right": vote.right,
        "preference": said.preference,
        "outcome": vote.outcome,
    }
    for side in SIDES:
        row |= {f"{side}_{name}": said.levels.get(side, {}).get(name) for name in DIMENSIONS}
        row[f"{side}_correction"] = said.corrections.get(side)
    return row | {"note": said.note, "cast": vote.cast}


def rows(cast: Sequence[Vote], study: Study) -> list[dict[str, Any]]:
    """Corrections as training rows. The same text by several raters is one row that names them all."""
    found: dict[tuple[int, str], dict[str, Any]] = {}
    for vote, side, text in _corrections(cast):
        item, system = study.items[vote.item], _system(vote, side)
        known = found.get((vote.item, text))
        if known is not None:
            known["metadata"]["rating"]["votes"].append(_reference(vote, system))
            continue
        turns = [{"role": turn.role, "content": turn.content} for turn in item.turns]
        found[vote.item, text] = {
            "id": f"{item.id}#corrected-{vote.number}-{side}",
            "conversation": [*turns, {"role": "assistant", "content": text}],
            "metadata": {**item.metadata, "rating": _lineage(item, study, [_reference(vote, system)])},
        }
    return list(found.values())


def preferences(cast: Sequence[Vote], study: Study) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Preference pairs {prompt, chosen, rejected}: the answer that more raters preferred over the other, and every
    correction over the answer it corrects. Also why pairs were left out, counted."""
    found: list[dict[str, Any]] = []
    left_out: Counter[str] = Counter()
    by_pair: dict[tuple[int, tuple[str, ...]], list[Vote]] = {}
    for vote in cast:
        if vote.counts:
            by_pair.setdefault((vote.item, tuple(sorted((vote.left, vote.right)))), []).append(vote)
    for (number, systems), said in by_pair.items():
        item, counts = study.items[number], Counter(vote.outcome for vote in said)
        lead = counts[systems[0]] - counts[systems[1]]
        chosen, rejected = systems if lead > 0 else systems[::-1]
        if reason := _unfit(item, lead, chosen, rejected):
            left_out[reason] += 1
            continue
        lineage = _lineage(item, study, [_reference(vote, vote.outcome) for vote in said])
        lineage |= {"kind": "votes", "chosen": chosen, "rejected": rejected, "outcomes": dict(counts)}
        found.append(_preference(item, item.answers[chosen], item.answers[rejected], lineage))
    for vote, side, text in _corrections(cast):
        item, system = study.items[vote.item], _system(vote, side)
        if not item.answers[system].strip():
            left_out["the corrected answer is empty"] += 1
            continue
        lineage = _lineage(item, study, [_reference(vote, system)])
        lineage |= {"kind": "correction", "chosen": f"correction by {vote.rater}", "rejected": system}
        found.append(_preference(item, text, item.answers[system], lineage))
    return found, left_out


def _unfit(item: Item, lead: int, chosen: str, rejected: str) -> str:
    if lead == 0:
        return "no side has more votes"
    if not item.answers[chosen].strip() or not item.answers[rejected].strip():
        return "one of the answers is empty"
    return "both answers are the same text" if item.answers[chosen] == item.answers[rejected] else ""


def _preference(item: Item, chosen: str, rejected: str, lineage: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"{item.id}#preferred-{lineage['votes'][0]['vote']}-{lineage['kind']}",
        "prompt": [{"role": turn.role, "content": turn.content} for turn in item.turns],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        "metadata": {**item.metadata, "rating": lineage},
    }


def _corrections(cast: Iterable[Vote]) -> list[tuple[Vote, Side, str]]:
    """All corrections, those of repeats too: a text is a text."""
    return [(vote, side, text) for vote in cast for side in SIDES if (text := vote.judgement.corrections.get(side))]


def _system(vote: Vote, side: Side) -> str:
    return vote.left if side == "left" else vote.right


def _reference(vote: Vote, about: str) -> dict[str, Any]:
    return {"vote": vote.number, "rater": vote.rater, "about": about, "cast": vote.cast}


def _lineage(item: Item, study: Study, said: list[dict[str, Any]]) -> dict[str, Any]:
    """From the row back to the answers that were shown and the votes on them."""
    sources = [source.model_dump(include={"path", "sha256"}) for source in study.sources]
    return {"item": item.id, "split": item.origin.get("split", ""), "sources": sources,
            "study": study.fingerprint, "votes": said}  # fmt: skip


def as_jsonl(found: Iterable[dict[str, Any]]) -> str:
    """One JSON document a line."""
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in found)


def as_csv(found: Sequence[dict[str, Any]]) -> str:
    """With a header; begins with a BOM, without which Excel garbles Chinese. Texts that a spreadsheet would run as a
    formula get an apostrophe before them."""
    handle = io.StringIO()
    writer = csv.DictWriter(handle, list(found[0]) if found else ["vote"], lineterminator="\n")
    writer.writeheader()
    for row in found:
        cells = {k: f"'{v}" if isinstance(v, str) and v.startswith(_FORMULA) else v for k, v in row.items()}
        writer.writerow(cells)
    return "\ufeff" + handle.getvalue()
