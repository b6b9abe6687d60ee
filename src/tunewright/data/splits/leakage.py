"""The leakage table: what validation, test and external sets share with the training split, and the gate on it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from tunewright.core.chat import Conversation
from tunewright.core.errors import GateError
from tunewright.data.collection import seldom_collected
from tunewright.data.duplicates.components import Rows
from tunewright.data.duplicates.hashing import Hashes, text_hashes
from tunewright.data.duplicates.minhash import Sketcher
from tunewright.data.duplicates.text import comparable, conversation_text, grams, jaccard, row_text
from tunewright.data.findings import printable
from tunewright.data.splits.assign import question_text, row_question
from tunewright.data.splits.documents import Document, batched
from tunewright.data.splits.ngrams import shared_run
from tunewright.data.splits.overlap import Overlap
from tunewright.data.splits.shared import NONE, Candidates, FirstSeen

__all__ = ["KINDS", "Document", "Limits", "document", "leakage_table", "refuse_leakage", "row_document"]

KINDS = {
    "exact": "ask the question of a training row",
    "near": "are near duplicates of a training row",
    "overlap": "share 13 words or 20 Han characters in a row with a training row",
    "groups": "have the group value of a training row",
}
EXAMPLES = 5
EXCERPT = 80
"""Characters."""
_NGRAMS = 4_000_000
"""N-grams of the other sets that are held at once; more take another pass over the training rows."""


class Limits(Protocol):
    """The largest number of rows of each kind that a set may have; None: no limit (`options.LeakageLimits`)."""

    @property
    def exact(self) -> int | None: ...

    @property
    def near(self) -> int | None: ...

    @property
    def overlap(self) -> int | None: ...

    @property
    def groups(self) -> int | None: ...


@runtime_checkable
class _Indexed(Protocol):
    def __getitem__(self, row: int, /) -> Document: ...


def document(conversation: Conversation, group: str | None = None) -> Document:
    """What of a conversation is looked for in training rows."""
    return Document(conversation.id, question_text(conversation), conversation_text(conversation), group)


def row_document(row: Mapping[str, Any], group: str | None = None) -> Document:
    """`document` of a sealed row."""
    turns = row["conversation"]
    return Document(row["id"], row_question(turns), row_text(turns), group)


@seldom_collected()
def leakage_table(
    train: Iterable[Document],
    others: Mapping[str, Iterable[Document]],
    *,
    threshold: float = 0.7,
    seed: int,
    use_rensa: bool | None = None,
) -> dict[str, Any]:
    """`{"train_rows", "threshold", "sets": {name: {"rows", kind: {"rows", "examples"}}}}` for the kinds of KINDS.

    The kinds are counted apart: a copied row is exact, near and overlapping. Near: Jaccard similarity of the 5-grams
    of at least `threshold`, with one of the likeliest training rows. The iterables are read several times, so each
    must begin anew when asked for an iterator; with `__getitem__` single rows are read by number. Memory goes with the
    other sets: about 300 bytes a row and up to 100 MB for n-grams.
    """
    assert all(iter(rows) is not rows for rows in (train, *others.values())), "an iterator can be read only once"
    known = _Known(others, Sketcher(threshold=threshold, seed=seed, use_rensa=use_rensa), threshold)
    train_rows = known.see(train)
    found = {
        "exact": known.questions.rows(),
        "near": np.full(known.count, NONE, np.int64),
        "overlap": known.overlap.rest(train, others),
        "groups": known.groups.rows(),
    }
    similarity = _near(train, others, known.candidates.pairs(), threshold, found["near"])
    bounds = np.cumsum([0, *known.sizes])
    table: dict[str, Any] = {"train_rows": train_rows, "threshold": threshold, "sets": {}}
    examples = _Examples(train, others, found, bounds)
    for number, name in enumerate(others):
        own = slice(bounds[number], bounds[number + 1])
        kinds = {kind: {"rows": int((rows[own] != NONE).sum())} for kind, rows in found.items()}
        shown = {kind: {**kinds[kind], "examples": examples.of(kind, number, similarity)} for kind in KINDS}
        table["sets"][name] = {"rows": known.sizes[number], **shown}
    return table


class _Known:
    """The other sets, one row after the other, and what of them was seen in training rows."""

    def __init__(self, others: Mapping[str, Iterable[Document]], sketcher: Sketcher, threshold: float) -> None:
        self.candidates, self.overlap = Candidates(sketcher, threshold), Overlap(_NGRAMS)
        questions, groups = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
        self.sizes: list[int] = []
        self.count = 0
        for rows in others.values():
            before = self.count
            for batch in batched(rows):
                questions.append(_keys([row.question for row in batch], "empty"))
                groups.append(_keys([row.group for row in batch], "empty"))
                self.candidates.add(*_bare(batch, self.count))
                self.overlap.add([row.text for row in batch])
                self.count += len(batch)
            self.sizes.append(self.count - before)
        self.questions, self.groups = FirstSeen(np.concatenate(questions)), FirstSeen(np.concatenate(groups))
        self.candidates.freeze()

    def see(self, train: Iterable[Document]) -> int:
        """Reads the training rows; returns how many there are."""
        start = 0
        for batch in batched(train):
            rows = np.arange(start, start + len(batch))
            self.questions.see(_keys([row.question for row in batch], "empty in train"), rows)
            self.groups.see(_keys([row.group for row in batch], "empty in train"), rows)
            self.candidates.see(*_bare(batch, start))
            self.overlap.see([row.text for row in batch], start)
            start += len(batch)
        return start


def _keys(values: Sequence[str | None], empty: str) -> Hashes:
    """Hashes of values; what has none gets that of `empty`, which differs between training and other rows."""
    found = np.full(len(values), text_hashes([empty])[0])
    given = [number for number, value in enumerate(values) if value]
    found[given] = text_hashes([f"={values[number]}" for number in given])
    return found


def _bare(batch: list[Document], start: int) -> tuple[Rows, list[str]]:
    """The rows with a text to compare, and the texts."""
    texts = [comparable(row.text) for row in batch]
    filled = [number for number, text in enumerate(texts) if text]
    return start + np.array(filled, np.int64), [texts[number] for number in filled]


def _near(
    train: Iterable[Document],
    others: Mapping[str, Iterable[Document]],
    pairs: tuple[Rows, Rows],
    threshold: float,
    nearest: Rows,
) -> dict[int, float]:
    """Compares the candidate pairs exactly; sets `nearest` and returns the similarity of the rows that are near."""
    by_train: dict[int, list[int]] = {}
    for other, row in zip(*(side.tolist() for side in pairs), strict=True):
        by_train.setdefault(row, []).append(other)
    texts = {row: comparable(one.text) for row, one in _picked(_chained(others), set(pairs[0].tolist()))}
    best: dict[int, float] = {}
    for row, one in _picked(train, by_train):
        own = grams(comparable(one.text))
        for other in by_train[row]:
            value = jaccard(own, grams(texts[other]))
            if value >= threshold and value > best.get(other, 0.0):
                best[other] = value
                nearest[other] = row
    return best


def _chained(others: Mapping[str, Iterable[Document]]) -> Iterator[Document]:
    return (one for rows in others.values() for one in rows)


def _picked(rows: Iterable[Document], wanted: Iterable[int]) -> Iterator[tuple[int, Document]]:
    """The rows with these numbers, ascending; one by one where that is possible."""
    numbers = sorted(set(wanted))
    if isinstance(rows, _Indexed):
        yield from ((number, rows[number]) for number in numbers)
    elif numbers:
        known, upto = set(numbers), range(numbers[-1] + 1)
        yield from ((number, one) for number, one in zip(upto, rows, strict=False) if number in known)


class _Examples:
    """The first rows of each kind with the training rows they match."""

    def __init__(
        self, train: Iterable[Document], others: Mapping[str, Iterable[Document]], found: dict[str, Rows], bounds: Rows
    ) -> None:
        self._found = found
        self._numbers = {
            (kind, number): (low + np.flatnonzero(rows[low:high] != NONE)[:EXAMPLES]).tolist()
            for kind, rows in found.items()
            for number, (low, high) in enumerate(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True))
        }
        shown = {(kind, row) for (kind, _), rows in self._numbers.items() for row in rows}
        self._others = dict(_picked(_chained(others), {row for _, row in shown}))
        self._train = dict(_picked(train, {int(found[kind][row]) for kind, row in shown}))

    def of(self, kind: str, number: int, similarity: Mapping[int, float]) -> list[dict[str, Any]]:
        """Examples of a kind in a set, as report.json shows them."""
        examples = []
        for row in self._numbers[kind, number]:
            one, twin = self._others[row], self._train[int(self._found[kind][row])]
            example: dict[str, Any] = {
                "id": one.id,
                "train_id": twin.id,
                "excerpt": _excerpt(one.text),
                "train_excerpt": _excerpt(twin.text),
            }
            if kind == "near":
                example["jaccard"] = round(similarity[row], 4)
            if kind == "overlap":
                example["shared"] = _excerpt(shared_run(one.text, twin.text))
            if kind == "groups":
                example["group"] = _excerpt(one.group or "")
            examples.append(example)
        return examples


def _excerpt(text: str) -> str:
    return printable(" ".join(text.split())[:EXCERPT])


def refuse_leakage(table: Mapping[str, Any], limits: Limits) -> None:
    """Raises GateError for the first set and kind with more rows than its limit, with an example."""
    for name, found in table["sets"].items():
        for kind, meaning in KINDS.items():
            limit, rows = getattr(limits, kind), found[kind]["rows"]
            if limit is None or rows <= limit:
                continue
            example = found[kind]["examples"][0]
            raise GateError(
                f"{rows} of {found['rows']} rows of {name} {meaning}; the limit of {kind} is {limit}. For example "
                f"{example['id']} '{example['excerpt']}' and {example['train_id']} '{example['train_excerpt']}'",
                where=f"data.max_leakage.{kind}",
                fix=f"take these rows out of the training sources or out of {name}, or raise the limit",
            )
