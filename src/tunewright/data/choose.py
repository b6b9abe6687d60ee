"""Which rows are shown: the extremes that hide faults first, then some at random; the same rows for the same seed."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tunewright.core.chat import Conversation
from tunewright.core.errors import ConfigError

_LONGEST = 20
"""Rows among which one with a cut prompt is looked for: when none of the longest is cut, hardly any row is."""
_CLOSE = 3


@dataclass(frozen=True, slots=True)
class Chosen:
    """A row to show. why: 'longest', 'shortest', 'prompt cut', 'several turns', 'random' or 'asked for'."""

    conversation: Conversation
    why: str


@dataclass
class _Best:
    """The `limit` rows with the smallest keys, the earlier of equals first."""

    limit: int
    heap: list[tuple[float, int, Mapping[str, Any]]] = field(default_factory=list)

    def offer(self, key: float, number: int, row: Mapping[str, Any]) -> None:
        """Numbers differ, so that rows are never compared."""
        entry = (-key, -number, row)
        if len(self.heap) < self.limit:
            heapq.heappush(self.heap, entry)
        elif self.limit and entry[:2] > self.heap[0][:2]:
            heapq.heapreplace(self.heap, entry)

    def rows(self) -> list[Mapping[str, Any]]:
        """From the smallest key on."""
        return [row for _, _, row in sorted(self.heap, key=lambda entry: (-entry[0], -entry[1]))]


def pick(
    artifact_rows: Iterable[Mapping[str, Any]],
    *,
    split: str,
    row_id: str | None,
    count: int,
    seed: int,
    is_cut: Callable[[Conversation], bool] | None = None,
) -> list[Chosen]:
    """At most `count` rows (the form of `Conversation.to_row`), each once: the longest and the shortest in bytes,
    the longest whose prompt is cut, one with several answers, and rows drawn with `seed`. Or the row `row_id` alone.

    The rows are read once and few are held. Raises ConfigError for an id that is not among them, and for no rows.
    """
    if row_id is not None:
        return [_by_id(artifact_rows, split, row_id)]
    longest, shortest, turns, drawn = _Best(_LONGEST), _Best(1), _Best(1), _Best(count)
    for number, row in enumerate(artifact_rows):
        size, draw = _size(row), _draw(seed, str(row["id"]))
        longest.offer(-size, number, row)
        shortest.offer(size, number, row)
        drawn.offer(draw, number, row)
        if sum(turn["role"] == "user" for turn in row["conversation"]) > 1:
            turns.offer(draw, number, row)
    if not drawn.heap:
        raise ConfigError(f"the split '{split}' has no rows", where="--split", fix="choose another split")
    by_length = [Conversation.from_row(dict(row)) for row in longest.rows()]
    cut = next((row for row in by_length if is_cut and is_cut(row)), None)
    ranked = [
        *(("longest", row) for row in by_length[:1]),
        *(("shortest", Conversation.from_row(dict(row))) for row in shortest.rows()),
        *(("prompt cut", row) for row in [cut] if row),
        *(("several turns", Conversation.from_row(dict(row))) for row in turns.rows()),
        *(("random", Conversation.from_row(dict(row))) for row in drawn.rows()),
    ]
    return _once(ranked)[:count]


def _once(ranked: Iterable[tuple[str, Conversation]]) -> list[Chosen]:
    """A row that was chosen twice stands once, with both reasons; `random` is said where there is no other."""
    reasons: dict[str, list[str]] = {}
    rows: dict[str, Conversation] = {}
    for why, row in ranked:
        rows.setdefault(row.id, row)
        reasons.setdefault(row.id, []).append(why)
    return [Chosen(row, ", ".join(w for w in reasons[key] if w != "random") or "random") for key, row in rows.items()]


def _by_id(rows: Iterable[Mapping[str, Any]], split: str, row_id: str) -> Chosen:
    found: list[Mapping[str, Any]] = []

    def others() -> Iterator[str]:
        for row in rows:
            if row["id"] == row_id:
                found.append(row)
                return
            yield str(row["id"])

    close = close_ids(others(), row_id)
    if found:
        return Chosen(Conversation.from_row(dict(found[0])), "asked for")
    hint = f"close ids: {', '.join(close)}" if close else "look into the split's file for its ids"
    raise ConfigError(f"no row of the split '{split}' has the id '{row_id}'", where="--row", fix=hint)


def close_ids(ids: Iterable[str], wanted: str) -> list[str]:
    """The ids that share most of their beginning and end with `wanted`: sources have one name and many lines."""
    found = heapq.nlargest(_CLOSE, ((_likeness(one, wanted), -number, one) for number, one in enumerate(ids)))
    return [one for likeness, _, one in found if likeness > len(wanted) // 2]


def _likeness(one: str, wanted: str) -> int:
    start = _common(one, wanted)
    end = _common(one[start:][::-1], wanted[start:][::-1])
    return 2 * (start + end) - abs(len(one) - len(wanted))


def _common(one: str, other: str) -> int:
    """Characters that both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((number for number, (left, right) in pairs if left != right), min(len(one), len(other)))


def _size(row: Mapping[str, Any]) -> int:
    """Bytes as UTF-8, which are near to tokens in every script: a Han character is about as many as half a word."""
    texts = (f"{turn.get('content') or ''}{turn.get('tool_calls') or ''}" for turn in row["conversation"])
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)


def _draw(seed: int, row_id: str) -> int:
    """A number that depends on the seed and the id only, not on which other rows there are."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{row_id}".encode("utf-8", "backslashreplace")).digest()[:6], "big")
