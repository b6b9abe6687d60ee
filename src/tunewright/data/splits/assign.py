"""Dividing rows: by group and by cluster of equal questions, never by row alone; the same for the same content."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tunewright.core.chat import Conversation
from tunewright.core.errors import ArtifactError

Split = Literal["train", "validation", "test"]
_DIGEST_CHARS = 32


@dataclass(frozen=True, slots=True)
class Member:
    """What decides a row's split. digest: of its messages; question: of its prompt; group: value of group_by."""

    digest: str
    question: str
    group: str | None = None


def message_digest(conversation: Conversation) -> str:
    """Equal for rows with the same messages, whatever their metadata and train flags."""
    digest = hashlib.sha256()
    for message in conversation.messages:
        content = "\x00" if message.content is None else message.content
        digest.update(f"{message.role}\x1f{content}\x1f{message.tool_calls or ''}\x1e".encode())
    return digest.hexdigest()[:_DIGEST_CHARS]


def question_digest(conversation: Conversation) -> str:
    """Equal for rows that ask the same: the turns before the last answer without system turns, in NFKC, caseless,
    each run of whitespace one space."""
    turns = [f"{turn.role}\x1f{turn.content or ''}" for turn in conversation.prompt if turn.role != "system"]
    text = unicodedata.normalize("NFKC", "\x1e".join(turns)).casefold()
    return hashlib.sha256(" ".join(text.split()).encode()).hexdigest()[:_DIGEST_CHARS]


def assign(members: Sequence[Member], shares: Mapping[Split, float], *, seed: int) -> list[Split]:
    """The split of each member. shares: of the rows, together 1; a share of 0 gets nothing.

    Clusters come in a seeded order, each to the split that is emptiest against its share, so a split misses its share
    by less than its largest cluster. Raises ArtifactError when a split with a share gets no row.
    """
    clusters = _clusters(members)
    ordered = sorted(clusters, key=lambda rows: _draw(min(members[row].digest for row in rows), seed, "split"))
    wanted = [name for name, share in shares.items() if share > 0]
    counts: dict[Split, int] = dict.fromkeys(wanted, 0)
    found: dict[int, Split] = {}
    for rows in ordered:
        name = min(wanted, key=lambda split: counts[split] / shares[split])
        counts[name] += len(rows)
        found |= dict.fromkeys(rows, name)
    empty = next((name for name in wanted if not counts[name]), None)
    if empty:
        raise ArtifactError(
            f"{len(members)} usable row(s) in {len(clusters)} group(s) leave the {empty} split without a row",
            where="data.split",
            fix="give more rows or more groups, or change data.split",
        )
    return [found[row] for row in range(len(members))]


def _clusters(members: Sequence[Member]) -> list[list[int]]:
    """Rows joined by a shared group or question, as lists of row numbers (union-find)."""
    parents = list(range(len(members)))

    def root(row: int) -> int:
        while parents[row] != row:
            parents[row] = parents[parents[row]]
            row = parents[row]
        return row

    first: dict[tuple[str, str], int] = {}
    for row, member in enumerate(members):
        keys = [("question", member.question), *([("group", member.group)] if member.group is not None else [])]
        for key in keys:
            parents[root(row)] = root(first.setdefault(key, row))
    clusters: dict[int, list[int]] = {}
    for row in range(len(members)):
        clusters.setdefault(root(row), []).append(row)
    return list(clusters.values())


def _draw(digest: str, seed: int, purpose: str) -> str:
    """A number that is random in the seed and nothing but the row's content decides."""
    return hashlib.sha256(f"{purpose}\x1f{seed}\x1f{digest}".encode()).hexdigest()


def drawn(digests: Sequence[str], limit: int | None, *, seed: int) -> set[int]:
    """Which rows a draw of at most `limit` takes."""
    rows = range(len(digests))
    if limit is None or len(digests) <= limit:
        return set(rows)
    return set(sorted(rows, key=lambda row: _draw(digests[row], seed, "rows"))[:limit])


def leakage(train: Iterable[Member], other: Sequence[Member]) -> dict[str, int]:
    """Rows of `other` whose question, or whose group, also stands in `train`."""
    rows = list(train)
    questions = {member.question for member in rows}
    groups = {member.group for member in rows} - {None}
    return {
        "exact": sum(member.question in questions for member in other),
        "groups": sum(member.group in groups for member in other),
    }
