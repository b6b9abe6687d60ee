"""Which rows of an optimizer step a rank computes. Every rank works out the shares of all, from the same step plan.

N ranks compute what one process does: the shares are disjoint, their union is the step, and each loss is divided by the
trained tokens of the whole step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from tunewright.models.packing import micro_batches
from tunewright.models.tokens import Example


@dataclass(frozen=True)
class MicroBatch:
    """Rows computed at once. counts: whether they belong to this rank's share; a rank with fewer micro-batches than
    another repeats a row with weight 0, as sharded weights need every rank at every forward pass."""

    rows: list[Example]
    counts: bool


def deal(sizes: Sequence[int], ranks: int) -> list[list[int]]:
    """Indices of rows for each rank: the longest first, each to the rank with the fewest tokens (ties: fewest rows,
    lowest rank). sizes: tokens of each row. Disjoint, complete, the same on every rank."""
    shares: list[list[int]] = [[] for _ in range(ranks)]
    tokens = [0] * ranks
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        rank = min(range(ranks), key=lambda r: (tokens[r], len(shares[r]), r))
        shares[rank].append(index)
        tokens[rank] += sizes[index]
    return [sorted(share) for share in shares]


def shares_of(rows: Sequence[Example], ranks: int) -> list[list[Example]]:
    """The rows of one step, dealt to the ranks."""
    return [[rows[i] for i in share] for share in deal([len(row.input_ids) for row in rows], ranks)]


def micro_batches_of(
    rows: Sequence[Example], *, rank: int, ranks: int, max_tokens: int, share_prefix: bool = False
) -> list[MicroBatch]:
    """What `rank` computes of a step over `rows`: as many micro-batches on every rank."""
    cut = partial(micro_batches, max_tokens=max_tokens, share_prefix=share_prefix)
    groups = [cut(share) for share in shares_of(rows, ranks)]
    mine = [MicroBatch(group, counts=True) for group in groups[rank]]
    missing = max(map(len, groups)) - len(mine)
    shortest = min(rows, key=lambda row: len(row.input_ids))
    return mine + [MicroBatch([shortest], counts=False)] * missing
