"""Dividing rows: by question, group and near-duplicate cluster, never by row alone; the same for the same content."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from tunewright.core.chat import Conversation
from tunewright.core.errors import ArtifactError
from tunewright.data.duplicates.components import Components, Rows

Split = Literal["train", "validation", "test"]
Shares = Mapping[Split, float]
_DIGEST_BYTES = 16


@dataclass(slots=True)
class Member:
    """What decides a row's split. digest: of its messages; question: of its prompt; 16 bytes each. group: value of
    group_by; stratum: value of stratify_by; cluster: number of its near-duplicate cluster."""

    digest: bytes
    question: bytes
    group: str | None = None
    stratum: str | None = None
    cluster: int | None = None


def message_digest(conversation: Conversation) -> bytes:
    """Equal for rows with the same messages, whatever their metadata and train flags."""
    digest = hashlib.sha256()
    for message in conversation.messages:
        content = "\x00" if message.content is None else message.content
        digest.update(f"{message.role}\x1f{content}\x1f{message.tool_calls or ''}\x1e".encode())
    return digest.digest()[:_DIGEST_BYTES]


def question_text(conversation: Conversation) -> str:
    """Equal for rows that ask the same: the turns before the last answer without system turns, in NFKC, caseless,
    each run of whitespace one space; empty where nothing is asked."""
    return _asked([(turn.role, turn.content) for turn in conversation.prompt])


def row_question(turns: Sequence[Mapping[str, Any]]) -> str:
    """`question_text` of the turns of a sealed row."""
    last = len(turns) - 1
    while turns[last]["role"] != "assistant" or turns[last].get("train") is False:
        last -= 1
    return _asked([(turn["role"], turn["content"]) for turn in turns[:last]])


def _asked(turns: Sequence[tuple[str, str | None]]) -> str:
    text = "\x1e".join([f"{role}\x1f{content or ''}" for role, content in turns if role != "system"])
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def question_digest(conversation: Conversation) -> bytes:
    """The digest of `question_text`."""
    return hashlib.sha256(question_text(conversation).encode()).digest()[:_DIGEST_BYTES]


def clustered(members: Sequence[Member], cluster_of: Mapping[int, int]) -> list[Member]:
    """The members with the clusters that were found; rows that stand in none stay as they are."""
    return [
        replace(member, cluster=cluster_of[row]) if row in cluster_of else member for row, member in enumerate(members)
    ]


def assign(members: Sequence[Member], shares: Shares, *, seed: int) -> list[Split]:
    """The split of each member. shares: of the rows, together 1; a share of 0 gets nothing.

    Rows that are connected by a question, a group or a cluster go together. Without strata they come in a seeded
    order, each to the split that is emptiest against its share, so a split misses its share by less than its largest
    cluster. With strata see `_Quotas`. Raises ArtifactError when a split with a share gets no row.
    """
    clusters = _clusters(members)
    ordered = sorted(clusters, key=lambda rows: _draw(min(members[row].digest for row in rows.tolist()), seed, "split"))
    wanted = [name for name, share in shares.items() if share > 0]
    is_stratified = any(member.stratum is not None for member in members)
    chosen = _stratified(members, ordered, shares) if is_stratified else _emptiest(ordered, shares)
    if set(chosen) != set(wanted):
        empty = next(name for name in wanted if name not in chosen)
        raise ArtifactError(
            f"{len(members)} usable row(s) in {len(clusters)} group(s) leave the {empty} split without a row",
            where="data.split",
            fix="give more rows or more groups, or change data.split",
        )
    found: dict[int, Split] = {}
    for rows, name in zip(ordered, chosen, strict=True):
        found |= dict.fromkeys(rows.tolist(), name)
    return [found[row] for row in range(len(members))]


def _emptiest(clusters: Sequence[Rows], shares: Shares) -> list[Split]:
    counts: dict[Split, int] = {name: 0 for name, share in shares.items() if share > 0}
    chosen: list[Split] = []
    for rows in clusters:
        name = min(counts, key=lambda split: counts[split] / shares[split])
        counts[name] += len(rows)
        chosen.append(name)
    return chosen


def _stratified(members: Sequence[Member], clusters: Sequence[Rows], shares: Shares) -> list[Split]:
    """Large clusters first, so that the small ones even out what those leave."""
    quotas = _Quotas(Counter(member.stratum for member in members), shares)
    order = sorted(range(len(clusters)), key=lambda number: -len(clusters[number]))
    chosen: dict[int, Split] = {}
    for left, number in zip(range(len(order), 0, -1), order, strict=True):
        empty = [name for name in quotas.wanted if name not in chosen.values()] if left <= len(shares) else []
        among = empty if len(empty) == left else quotas.wanted  # the last clusters go where there is nothing yet
        chosen[number] = quotas.take(Counter(members[row].stratum for row in clusters[number].tolist()), among)
    return [chosen[number] for number in range(len(clusters))]


class _Quotas:
    """How many rows of each stratum every split still lacks: controlled rounding (Cox 1987) by a greedy choice.

    A split that lacks a whole row of the strata at hand comes first. The remainders, less than a row each, go to the
    split that lacks most rows over all strata. So with single rows each split gets share * rows of every stratum
    rounded up or down, and its share of all rows too.
    """

    def __init__(self, rows: Counter[str | None], shares: Shares) -> None:
        self.wanted = [name for name, share in shares.items() if share > 0]
        self._by_stratum = {name: {key: shares[name] * count for key, count in rows.items()} for name in self.wanted}
        self._overall = {name: shares[name] * rows.total() for name in self.wanted}

    def take(self, cluster: Counter[str | None], among: Sequence[Split]) -> Split:
        """The split, one of `among`, for a cluster with so many rows of each stratum."""
        lacks = {name: self._lack(name, cluster) for name in among}
        most = max(among, key=lacks.__getitem__)
        if lacks[most] < 1 - _ROUNDING:
            open_ = [name for name in among if lacks[name] > _ROUNDING]
            most = max(open_, key=self._overall.__getitem__) if open_ else most
        self._overall[most] -= cluster.total()
        for key, count in cluster.items():
            self._by_stratum[most][key] -= count
        return most

    def _lack(self, name: Split, cluster: Counter[str | None]) -> float:
        """Mean over the cluster's rows."""
        return sum(self._by_stratum[name][key] * count for key, count in cluster.items()) / cluster.total()


_ROUNDING = 1e-9


def _clusters(members: Sequence[Member]) -> list[Rows]:
    """Rows joined by a shared question, group or near-duplicate cluster."""
    components = Components(len(members))
    rows = np.arange(len(members), dtype=np.int64)
    components.join(rows, _first_rows(member.question for member in members))
    components.join(rows, _first_rows(member.group for member in members))
    components.join(rows, _first_rows(member.cluster for member in members))
    return components.groups()


def _first_rows(keys: Iterable[Hashable]) -> Rows:
    """For each row the first row with the same key; itself where it has none."""
    first: dict[Hashable, int] = {}
    return np.array([row if key is None else first.setdefault(key, row) for row, key in enumerate(keys)], np.int64)


def _draw(digest: bytes, seed: int, purpose: str) -> bytes:
    """A number that is random in the seed and nothing but the row's content decides."""
    return hashlib.sha256(f"{purpose}\x1f{seed}\x1f{digest.hex()}".encode()).digest()[:_DIGEST_BYTES]


def drawn(digests: Sequence[bytes], limit: int | None, *, seed: int) -> set[int]:
    """Which rows a draw of at most `limit` takes."""
    rows = range(len(digests))
    if limit is None or len(digests) <= limit:
        return set(rows)
    return set(sorted(rows, key=lambda row: _draw(digests[row], seed, "rows"))[:limit])
